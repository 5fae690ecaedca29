"""When a score was made, by the wall's clock: how stale scores are is told in hours, whatever a tenant's clock says.

A release that knows nothing of the column goes on: it names no columns, and the default is right for what it writes anew.
"""

from alembic import op

revision = "scoring_0002"
down_revision = "scoring_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE scoring.scores ADD COLUMN scored_at timestamptz NOT NULL DEFAULT now()")


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")
