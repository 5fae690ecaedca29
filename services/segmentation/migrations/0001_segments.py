"""Tenants, segments with their versions, quintile cuts, memberships, traits, and what has to be evaluated again."""

from alembic import op

from chassis import log, outbox

revision = "segmentation_0001"
down_revision = None

_TABLES = (
    # `turn` counts writes: what was computed before another write is not saved. `swept_turn`: every profile has been
    # evaluated since that turn; `refreshed_at` is the tenant's clock then, `recomputed_at` where quintiles were cut too.
    # `checked_at`: when the timer last looked. `waiting_since`: the oldest row in dirty.
    """
    CREATE TABLE segmentation.tenants (
        tenant_id text PRIMARY KEY, seen_at timestamptz NOT NULL DEFAULT now(), turn bigint NOT NULL DEFAULT 0,
        swept_turn bigint NOT NULL DEFAULT -1, refreshed_at timestamptz, recomputed_at timestamptz,
        checked_at timestamptz, marked_at timestamptz, waiting_since timestamptz
    )""",
    """
    CREATE TABLE segmentation.segments (
        tenant_id text NOT NULL, key text NOT NULL, name text NOT NULL, description text NOT NULL, version int NOT NULL,
        turn bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, key)
    )""",
    """
    CREATE TABLE segmentation.segment_versions (
        tenant_id text NOT NULL, key text NOT NULL, version int NOT NULL, condition jsonb NOT NULL, actor text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, key, version),
        FOREIGN KEY (tenant_id, key) REFERENCES segmentation.segments
    )""",
    """
    CREATE TABLE segmentation.cuts (
        tenant_id text NOT NULL, version int NOT NULL, at timestamptz NOT NULL, customer_count int NOT NULL,
        recency float8[] NOT NULL, frequency float8[] NOT NULL, monetary float8[] NOT NULL,
        PRIMARY KEY (tenant_id, version)
    )""",
    # Former members keep a row: the time of a change must be after the time of the one before it.
    """
    CREATE TABLE segmentation.memberships (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, segment_key text NOT NULL, is_member boolean NOT NULL,
        since timestamptz NOT NULL, is_doubtful boolean NOT NULL DEFAULT false,
        PRIMARY KEY (tenant_id, profile_id, segment_key)
    )""",
    "CREATE INDEX members ON segmentation.memberships (tenant_id, segment_key, profile_id) INCLUDE (since) WHERE is_member",
    """
    CREATE TABLE segmentation.traits (
        tenant_id text NOT NULL, profile_id uuid NOT NULL, name text NOT NULL, value jsonb NOT NULL, ts timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, profile_id, name)
    )""",
    # (mark_xid, mark_seq): where in the log its newest event is. `marks` tells whether it was marked again meanwhile.
    """
    CREATE TABLE segmentation.dirty (
        tenant_id text NOT NULL, node_id uuid NOT NULL, marks bigint NOT NULL DEFAULT 1, mark_xid xid8 NOT NULL,
        mark_seq bigint NOT NULL, first_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, node_id)
    )""",
    "CREATE INDEX dirty_by_age ON segmentation.dirty (tenant_id, first_at)",
    log.CURSOR_TABLE.format(schema="segmentation"),
    outbox.TABLE.format(schema="segmentation"),
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    tables = ("outbox", "log_cursor", "dirty", "traits", "memberships", "cuts", "segment_versions", "segments", "tenants")
    for table in tables:
        op.execute(f"DROP TABLE segmentation.{table}")
