"""The event log, and the first projections of it."""

from alembic import op

from chassis.log import CURSOR_TABLE

revision = "profiles_0001"
down_revision = None

RECEIPT_PARTITIONS = 8

_LOG = (
    # `xid` and `seq` give the order in which readers follow (chassis/log.py). Nobody is granted UPDATE or DELETE.
    """
    CREATE TABLE log.events (
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
        tenant_id text NOT NULL,
        key uuid,
        received_at timestamptz NOT NULL,
        payload bytea NOT NULL
    ) PARTITION BY RANGE (received_at)
    """,
    "CREATE INDEX events_position ON log.events (xid, seq)",
    # The safety net: an event of a month that nobody prepared is taken all the same.
    "CREATE TABLE log.events_default PARTITION OF log.events DEFAULT",
    """
    CREATE FUNCTION log.ensure_partitions(behind integer, ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
    DECLARE
        first timestamptz;
        name text;
        made integer := 0;
    BEGIN
        IF behind NOT BETWEEN 0 AND 24 OR ahead NOT BETWEEN 0 AND 24 THEN
            RAISE EXCEPTION 'behind and ahead are months, 0 to 24';
        END IF;
        PERFORM pg_advisory_xact_lock(hashtext('log.ensure_partitions'));
        FOR step IN -behind .. ahead LOOP
            first := date_trunc('month', now()) + make_interval(months => step);
            name := 'events_' || to_char(first, 'YYYYMM');
            CONTINUE WHEN to_regclass('log.' || name) IS NOT NULL;
            BEGIN
                EXECUTE format(
                    'CREATE TABLE log.%I PARTITION OF log.events FOR VALUES FROM (%L) TO (%L)',
                    name, first, first + interval '1 month'
                );
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                -- Rows of that month are in the default partition already; there they stay readable.
                RAISE WARNING 'partition % cannot be made: its rows are in log.events_default', name;
            END;
        END LOOP;
        RETURN made;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION log.ensure_partitions(integer, integer) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION log.ensure_partitions(integer, integer) TO rapport_profiles",
    "SELECT log.ensure_partitions(1, 3)",
    # The event itself is the row of log.events that the same transaction wrote: that is what xid tells who looks for it.
    """
    CREATE TABLE log.receipts (
        tenant_id text NOT NULL,
        message_hash bytea NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        received_at timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, message_hash)
    ) PARTITION BY HASH (message_hash)
    """,
    *(
        f"CREATE TABLE log.receipts_{number} PARTITION OF log.receipts "
        f"FOR VALUES WITH (MODULUS {RECEIPT_PARTITIONS}, REMAINDER {number})"
        for number in range(RECEIPT_PARTITIONS)
    ),
)

# Not projections: they cannot be rebuilt from the log.
_TRUTHS = (
    """
    CREATE TABLE profiles.tenants (
        tenant_id text PRIMARY KEY,
        clock text NOT NULL CHECK (clock IN ('wall', 'events')),
        wrapped_key bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE profiles.person_keys (
        tenant_id text NOT NULL, node_id uuid NOT NULL,
        wrapped_key bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, node_id)
    )
    """,
    """
    CREATE TABLE profiles.rejections (
        tenant_id text NOT NULL, rejection_id bytea NOT NULL,
        received_at timestamptz NOT NULL,
        type text NOT NULL, reason text NOT NULL, field text NOT NULL, message text NOT NULL,
        PRIMARY KEY (tenant_id, rejection_id)
    )
    """,
    "CREATE INDEX rejections_newest ON profiles.rejections (tenant_id, received_at DESC, rejection_id)",
    """
    CREATE TABLE profiles.intake_counts (
        tenant_id text PRIMARY KEY,
        rejected_count bigint NOT NULL DEFAULT 0,
        duplicate_count bigint NOT NULL DEFAULT 0
    )
    """,
)

_PROJECTIONS = (
    CURSOR_TABLE.format(schema="profiles"),
    """
    CREATE TABLE profiles.clocks (
        tenant_id text PRIMARY KEY,
        newest_ts timestamptz,
        event_count bigint NOT NULL DEFAULT 0
    )
    """,
    # An identifier, as its pseudonym. `profile_id` is where it belongs now; node_profiles says where it belonged when.
    """
    CREATE TABLE profiles.nodes (
        tenant_id text NOT NULL, node_id uuid NOT NULL,
        profile_id uuid NOT NULL,
        -- When it was first named; when its own last event was, null where others only named it.
        first_seen timestamptz NOT NULL, last_seen timestamptz,
        event_count bigint NOT NULL,
        PRIMARY KEY (tenant_id, node_id)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX nodes_profile ON profiles.nodes (tenant_id, profile_id)",
    """
    CREATE TABLE profiles.links (
        tenant_id text NOT NULL, node_a uuid NOT NULL, node_b uuid NOT NULL,
        since timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, node_a, node_b)
    )
    """,
    "CREATE INDEX links_reverse ON profiles.links (tenant_id, node_b)",
    """
    CREATE TABLE profiles.node_profiles (
        tenant_id text NOT NULL, node_id uuid NOT NULL, profile_id uuid NOT NULL,
        since timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, node_id, since)
    )
    """,
    "CREATE INDEX node_profiles_profile ON profiles.node_profiles (tenant_id, profile_id)",
    # One row for each profile that is not part of another.
    """
    CREATE TABLE profiles.profiles (
        tenant_id text NOT NULL, profile_id uuid NOT NULL,
        first_seen timestamptz NOT NULL, last_seen timestamptz NOT NULL,
        event_count bigint NOT NULL,
        identified boolean NOT NULL,
        PRIMARY KEY (tenant_id, profile_id)
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX profiles_identified ON profiles.profiles (tenant_id, profile_id) WHERE identified",
    # By node, so that a merge moves nothing: a profile's trait is the newest of its nodes'.
    """
    CREATE TABLE profiles.traits (
        tenant_id text NOT NULL, node_id uuid NOT NULL, key text NOT NULL,
        value jsonb NOT NULL,
        ts timestamptz NOT NULL, event_id bytea NOT NULL,
        PRIMARY KEY (tenant_id, node_id, key)
    )
    """,
    # The sealed parts of a node's newest identify calls, one for each different set of traits.
    """
    CREATE TABLE profiles.personal_traits (
        tenant_id text NOT NULL, node_id uuid NOT NULL, traits_digest bytea NOT NULL,
        ts timestamptz NOT NULL, event_id bytea NOT NULL,
        known_at timestamptz NOT NULL,
        sealed bytea NOT NULL,
        PRIMARY KEY (tenant_id, node_id, traits_digest)
    )
    """,
    """
    CREATE TABLE profiles.timeline (
        tenant_id text NOT NULL, node_id uuid NOT NULL,
        event_id bytea NOT NULL,
        ts timestamptz NOT NULL, known_at timestamptz NOT NULL, received_at timestamptz NOT NULL,
        type text NOT NULL, name text NOT NULL, source text NOT NULL, channel text NOT NULL,
        numbers jsonb NOT NULL, texts jsonb NOT NULL, rest jsonb NOT NULL,
        PRIMARY KEY (tenant_id, node_id, ts, event_id)
    )
    """,
    # Received to readable, of the last events that were projected.
    """
    CREATE TABLE profiles.freshness (
        tenant_id text PRIMARY KEY,
        p50_s double precision NOT NULL, p99_s double precision NOT NULL,
        sampled_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # How far the archive goes, and up to where a file is being written: after a crash the same range is written again.
    """
    CREATE TABLE profiles.exports (
        tenant_id text PRIMARY KEY,
        xid xid8 NOT NULL, seq bigint NOT NULL,
        planned_xid xid8, planned_seq bigint
    )
    """,
    """
    CREATE TABLE profiles.export_files (
        tenant_id text NOT NULL, path text NOT NULL,
        sha256 bytea NOT NULL, event_count bigint NOT NULL,
        PRIMARY KEY (tenant_id, path)
    )
    """,
)


def upgrade() -> None:
    for statement in (*_LOG, *_TRUTHS, *_PROJECTIONS):
        op.execute(statement)
