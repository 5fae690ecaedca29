"""Champions and the latest scores."""

from alembic import op

from chassis.log import CURSOR_TABLE
from chassis.outbox import TABLE as OUTBOX_TABLE

revision = "scoring_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    CURSOR_TABLE.format(schema="scoring"),
    OUTBOX_TABLE.format(schema="scoring"),
    # promoted_at is by the tenant's clock, recorded_at by the wall's.
    """
    CREATE TABLE scoring.champions (
        tenant_id text NOT NULL, model text NOT NULL, registered_name text NOT NULL, version text NOT NULL,
        digest text NOT NULL, feature_digest text NOT NULL,
        promoted_at timestamptz NOT NULL, recorded_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, model)
    )""",
    # body: the whole score, as JSON.
    """
    CREATE TABLE scoring.scores (
        tenant_id text NOT NULL, model text NOT NULL, profile_id uuid NOT NULL, version text NOT NULL,
        probability float8 NOT NULL, as_of timestamptz NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (tenant_id, model, profile_id)
    )""",
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")
