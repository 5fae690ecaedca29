"""What receipts answer from, and tracking plans."""

from alembic import op

revision = "profiles_0002"
down_revision = "profiles_0001"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # The keyed hash of the message id: what a receipt is looked up by.
    "ALTER TABLE profiles.rejections ADD COLUMN message_hash bytea",
    "CREATE INDEX rejections_message ON profiles.rejections (tenant_id, message_hash, received_at DESC)",
    # Messages that came again. Not in log.receipts: a row that is never changed is cheap.
    """
    CREATE TABLE profiles.repeats (
        tenant_id text NOT NULL, message_hash bytea NOT NULL,
        repeat_count bigint NOT NULL,
        last_received timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, message_hash)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX repeats_oldest ON profiles.repeats (last_received)",
    """
    ALTER TABLE profiles.intake_counts
        ADD COLUMN quarantined_count bigint NOT NULL DEFAULT 0,
        ADD COLUMN replayed_count bigint NOT NULL DEFAULT 0,
        -- The newest rejection that is forgotten: who asks for an older one is told so.
        ADD COLUMN forgotten_through timestamptz
    """,
    """
    CREATE TABLE profiles.plans (
        tenant_id text NOT NULL, version integer NOT NULL,
        document bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, version)
    )
    """,
    # The event as the log would hold it, its personal part sealed under the person's key; null once it was decided.
    """
    CREATE TABLE profiles.quarantine (
        tenant_id text NOT NULL, event_id bytea NOT NULL,
        node_id uuid,
        received_at timestamptz NOT NULL, ts timestamptz NOT NULL,
        type text NOT NULL, name text NOT NULL,
        plan_version integer NOT NULL, rule text NOT NULL, field text NOT NULL, message text NOT NULL,
        payload bytea,
        state text NOT NULL DEFAULT 'waiting'
            CHECK (state IN ('waiting', 'replayed', 'superseded', 'discarded', 'expired')),
        decided_at timestamptz,
        PRIMARY KEY (tenant_id, event_id)
    )
    """,
    "CREATE INDEX quarantine_waiting ON profiles.quarantine (tenant_id, received_at, event_id) WHERE state = 'waiting'",
    "CREATE INDEX quarantine_age ON profiles.quarantine (received_at) WHERE state = 'waiting'",
    "CREATE INDEX quarantine_decided ON profiles.quarantine (decided_at) WHERE state <> 'waiting'",
    "CREATE INDEX quarantine_node ON profiles.quarantine (tenant_id, node_id)",
    """
    CREATE TABLE profiles.plan_violations (
        tenant_id text NOT NULL, version integer NOT NULL,
        type text NOT NULL, event text NOT NULL, rule text NOT NULL, path text NOT NULL,
        mode text NOT NULL,
        violation_count bigint NOT NULL,
        first_seen timestamptz NOT NULL, last_seen timestamptz NOT NULL,
        expected text NOT NULL, found text NOT NULL,
        -- JSON, of a public property only.
        value bytea,
        PRIMARY KEY (tenant_id, version, type, event, rule, path)
    ) WITH (fillfactor = 80)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
