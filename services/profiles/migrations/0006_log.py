"""How long the log is kept, and what of it was moved to the archive."""

from alembic import op

revision = "profiles_0006"
down_revision = "profiles_0005"
branch_labels = None
depends_on = None

_STATEMENTS: tuple[str, ...] = (
    # No row: for ever.
    "CREATE TABLE profiles.log_retention (tenant_id text PRIMARY KEY, days integer NOT NULL CHECK (days >= 7))",
    # Up to here a tenant's events are in the archive and no longer in log.events.
    "CREATE TABLE profiles.log_floors (tenant_id text PRIMARY KEY, xid xid8 NOT NULL, seq bigint NOT NULL)",
    # The archive's files that hold those; `xid` and `seq` are the last event's.
    """
    CREATE TABLE profiles.log_files (
        tenant_id text NOT NULL, path text NOT NULL,
        sha256 bytea NOT NULL, event_count bigint NOT NULL,
        xid xid8 NOT NULL, seq bigint NOT NULL,
        PRIMARY KEY (tenant_id, path)
    )
    """,
    # Up to here all readers of this schema are. One that follows Kafka has a row for each partition besides its own, and counts
    # by the slowest of them; what was set aside and tried again is no place.
    """
    CREATE VIEW profiles.log_handled AS
    WITH places AS (
        SELECT split_part(consumer, '/', 1) AS name, strpos(consumer, '/') > 0 AS is_partition, xid, seq
        FROM profiles.log_cursor WHERE strpos(consumer, ' again ') = 0
    ), slowest AS (
        SELECT DISTINCT ON (name) name, xid, seq FROM places WHERE is_partition ORDER BY name, places.xid, places.seq
    ), reached AS (
        SELECT DISTINCT ON (name) name, xid, seq
        FROM (SELECT name, xid, seq FROM places WHERE NOT is_partition UNION ALL SELECT name, xid, seq FROM slowest) AS either
        ORDER BY name, either.xid DESC, either.seq DESC
    )
    SELECT xid, seq FROM reached ORDER BY reached.xid, reached.seq LIMIT 1
    """,
    # The only way to delete from the log. It trusts its caller with the file, and with nothing else: all events up to the place
    # must be in that file, exported, handled by all readers of this schema, and a week old.
    """
    CREATE FUNCTION log.forget(tenant text, upto_xid xid8, upto_seq bigint, file text, digest bytea, count bigint)
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        floor_xid xid8;
        floor_seq bigint;
        youngest timestamptz;
        deleted bigint;
    BEGIN
        INSERT INTO profiles.log_floors VALUES (tenant, '0', 0) ON CONFLICT DO NOTHING;
        SELECT xid, seq INTO floor_xid, floor_seq FROM profiles.log_floors WHERE tenant_id = tenant FOR UPDATE;
        IF NOT EXISTS (SELECT FROM profiles.exports WHERE tenant_id = tenant AND (xid, seq) >= (upto_xid, upto_seq)) THEN
            RAISE EXCEPTION 'these events are not exported yet';
        END IF;
        IF NOT EXISTS (SELECT FROM profiles.log_handled WHERE (xid, seq) >= (upto_xid, upto_seq)) THEN
            RAISE EXCEPTION 'a reader has not handled these events yet';
        END IF;
        WITH gone AS (
            DELETE FROM log.events
            WHERE tenant_id = tenant AND (xid, seq) > (floor_xid, floor_seq) AND (xid, seq) <= (upto_xid, upto_seq)
            RETURNING received_at
        ) SELECT max(received_at), pg_catalog.count(*) INTO youngest, deleted FROM gone;
        IF deleted <> count THEN
            RAISE EXCEPTION 'the file has % events, and the log %', count, deleted;
        END IF;
        IF youngest > now() - interval '7 days' THEN
            RAISE EXCEPTION 'these events are younger than a week';
        END IF;
        UPDATE profiles.log_floors SET xid = upto_xid, seq = upto_seq WHERE tenant_id = tenant;
        INSERT INTO profiles.log_files VALUES (tenant, file, digest, count, upto_xid, upto_seq);
        RETURN deleted;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION log.forget(text, xid8, bigint, text, bytea, bigint) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION log.forget(text, xid8, bigint, text, bytea, bigint) TO rapport_profiles",
    # A month whose last tenant's last event went. The present month's partition and those of the two before stay.
    """
    CREATE FUNCTION log.drop_empty_partitions() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
    DECLARE
        name text;
        used boolean;
        dropped integer := 0;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('log.ensure_partitions'));
        FOR name IN
            SELECT class.relname FROM pg_inherits
            JOIN pg_class AS class ON class.oid = inhrelid
            WHERE inhparent = 'log.events'::regclass AND class.relname ~ '^events_[0-9]{6}$'
                AND to_date(substr(class.relname, 8), 'YYYYMM') < date_trunc('month', now()) - interval '2 months'
            ORDER BY 1
        LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM log.%I)', name) INTO used;
            CONTINUE WHEN used;
            BEGIN
                LOCK TABLE log.events IN ACCESS EXCLUSIVE MODE;
                EXECUTE format('SELECT EXISTS (SELECT FROM log.%I)', name) INTO used;
                CONTINUE WHEN used;
                EXECUTE format('DROP TABLE log.%I', name);
                dropped := dropped + 1;
            EXCEPTION WHEN lock_not_available THEN
                RETURN dropped;
            END;
        END LOOP;
        RETURN dropped;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION log.drop_empty_partitions() FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION log.drop_empty_partitions() TO rapport_profiles",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
