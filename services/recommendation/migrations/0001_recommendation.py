"""Purchases, spending, items, memberships, scores, and who became whom."""

from alembic import op

from chassis.log import CURSOR_TABLE
from chassis.outbox import TABLE as OUTBOX_TABLE

revision = "recommendation_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    CURSOR_TABLE.format(schema="recommendation"),
    OUTBOX_TABLE.format(schema="recommendation"),
    """
    CREATE TABLE recommendation.merges (
        tenant_id text NOT NULL, node_id uuid NOT NULL, profile_id uuid NOT NULL,
        PRIMARY KEY (tenant_id, node_id)
    )""",
    "CREATE INDEX merges_by_profile ON recommendation.merges (tenant_id, profile_id)",
    """
    CREATE TABLE recommendation.items (
        tenant_id text NOT NULL, item_id text NOT NULL, item_no int GENERATED ALWAYS AS IDENTITY,
        name text NOT NULL, category text NOT NULL, named_at timestamptz NOT NULL,
        in_catalogue boolean NOT NULL DEFAULT true, catalogue_version int NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant_id, item_id)
    )""",
    "CREATE UNIQUE INDEX items_by_number ON recommendation.items (tenant_id, item_no)",
    "CREATE INDEX items_out ON recommendation.items (tenant_id, item_no) WHERE NOT in_catalogue",
    """
    CREATE TABLE recommendation.purchases (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, item_no int NOT NULL, order_id text NOT NULL,
        bought_at timestamptz NOT NULL, known_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, profile_id, item_no, order_id)
    )""",
    """
    CREATE TABLE recommendation.volumes (
        tenant_id text NOT NULL PRIMARY KEY, purchase_count bigint NOT NULL
    )""",
    """
    CREATE TABLE recommendation.spending (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, event_id bytea NOT NULL,
        happened_at timestamptz NOT NULL, amount float8 NOT NULL,
        PRIMARY KEY (tenant_id, profile_id, event_id)
    )""",
    """
    CREATE TABLE recommendation.memberships (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, segment text NOT NULL,
        entered_at timestamptz NOT NULL, exited_at timestamptz,
        PRIMARY KEY (tenant_id, profile_id, segment, entered_at)
    )""",
    """
    CREATE TABLE recommendation.scores (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, probability float8 NOT NULL, as_of timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, profile_id)
    )""",
)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not thrown away")
