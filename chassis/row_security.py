"""Row-level security: each service's role sees the rows of one tenant, the one that the connection was told of (chassis/db.py).

`chassis/migrate.py` ends with `protect`: whatever table a migration made, if it has a column `tenant_id`, it has the policy.
"""

from collections.abc import Sequence
from typing import Final

POLICY: Final = "tenant"
# A session that never heard of the setting is the release before's, which runs on the new schema during an upgrade and after a
# rollback: it sees everyone. This release's sessions set it before anything else; the next one's policies may say nobody.
SEEN: Final = "coalesce(current_setting('rapport.tenant', true), '*')"
# Asked once for a statement and not for each row, hence the SELECTs. The first is a boolean of its own: the planner takes it
# for a coin toss, and does not expect fewer rows for it.
ADMITTED: Final = f"(SELECT {SEEN} = '*') OR tenant_id = (SELECT {SEEN})"

_TABLES: Final = """
SELECT class.oid::regclass AS name, class.relispartition AS is_partition, {waits} AS waits FROM pg_class AS class
WHERE class.relnamespace = ANY('{{{schemas}}}'::regnamespace[]) AND class.relkind IN ('r', 'p') AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'tenant_id' AND NOT attisdropped
) AND NOT (
    (class.relrowsecurity OR {waits}) AND (class.relispartition OR EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid))
) ORDER BY class.relispartition, class.oid
"""
_WAITS: Final = "class.oid = ANY('{{{tables}}}'::regclass[])"


def protect(*schemas: str, later: Sequence[str] = ()) -> str:
    """One statement: a policy for every table of these schemas that has a column `tenant_id` and no policy yet.

    A partition gets none: whoever does not own it reads and writes it by way of its table only. The tables are locked together
    and briefly; where others hold them, it lets go and tries again. That is why it wants a transaction of its own: with a lock
    from before, whoever waits for that one holds others that it needs, and none of its attempts gets through.

    `later`: tables that get their policy and are not yet held to it. They have to be protected once more, without `later`.
    """
    waits = _WAITS.format(tables=",".join(later)) if later else "false"
    tables = _TABLES.format(schemas=",".join(schemas), waits=waits)
    return f"""
    DO $protect$
    DECLARE
        one record;
        patience text := current_setting('lock_timeout');
    BEGIN
        FOR attempt IN 1..100 LOOP
            BEGIN
                PERFORM set_config('lock_timeout', '300ms', true);
                FOR one IN {tables} LOOP
                    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', one.name);
                END LOOP;
                EXIT;
            EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
                IF attempt = 100 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.1);
            END;
        END LOOP;
        PERFORM set_config('lock_timeout', patience, true);
        FOR one IN {tables} LOOP
            IF NOT one.is_partition THEN
                EXECUTE format('DROP POLICY IF EXISTS {POLICY} ON %s', one.name);
                EXECUTE format('CREATE POLICY {POLICY} ON %s USING (%s)', one.name, $policy${ADMITTED}$policy$);
            END IF;
            CONTINUE WHEN one.waits;
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one.name);
        END LOOP;
    END
    $protect$
    """
