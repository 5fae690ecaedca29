"""What runs as the owner asks for whom: no policy binds it."""

from alembic import op

from chassis.row_security import SEEN

revision = "profiles_0010"
down_revision = "profiles_0009"
branch_labels = None
depends_on = None

# They run as the tables' owner, whom no policy binds: they ask for themselves, and give new partitions what the others have.
_FUNCTIONS = (
    f"""
    CREATE FUNCTION log.refuse_others(tenant text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF {SEEN} NOT IN ('*', tenant) THEN
            RAISE EXCEPTION 'this connection is not for the tenant' USING ERRCODE = 'insufficient_privilege';
        END IF;
    END
    $$
    """,
    "REVOKE ALL ON FUNCTION log.refuse_others(text) FROM PUBLIC",
    """
    CREATE OR REPLACE FUNCTION log.ensure_partitions(behind integer, ahead integer) RETURNS integer
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
                EXECUTE format('ALTER TABLE log.%I ENABLE ROW LEVEL SECURITY', name);
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
    """
    CREATE OR REPLACE FUNCTION log.forget(tenant text, upto_xid xid8, upto_seq bigint, file text, digest bytea, count bigint)
    RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        floor_xid xid8;
        floor_seq bigint;
        youngest timestamptz;
        deleted bigint;
    BEGIN
        PERFORM log.refuse_others(tenant);
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
    """
    CREATE OR REPLACE FUNCTION log.erase(tenant text, keys uuid[], upto timestamptz) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DECLARE
        gone bigint;
    BEGIN
        PERFORM log.refuse_others(tenant);
        DELETE FROM log.events WHERE tenant_id = tenant AND key = ANY(keys) AND received_at <= upto;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END
    $$
    """,
)


def upgrade() -> None:
    for statement in _FUNCTIONS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("tenants are not laid open to each other")
