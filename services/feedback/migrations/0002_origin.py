"""Whose a row was before profiles merged, so that it finds back where they part."""

from alembic import op

revision = "feedback_0002"
down_revision = "feedback_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("answers", "cases"):
        op.execute(f"ALTER TABLE feedback.{table} ADD COLUMN node_id uuid")


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")
