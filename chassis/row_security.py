"""Row-level security: each service's role sees the rows of one tenant, the one that the connection was told of (chassis/db.py).

A migration that makes tables with a column `tenant_id` ends with `op.execute(protect("its_schema"))`.
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
SELECT class.oid::regclass AS name, class.relispartition AS is_partition FROM pg_class AS class
WHERE class.relnamespace = ANY('{{{schemas}}}'::regnamespace[]) AND class.relkind IN ('r', 'p') AND EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'tenant_id' AND NOT attisdropped
) ORDER BY class.relispartition, class.oid
"""


def protect(*schemas: str, later: Sequence[str] = ()) -> str:
    """One statement: a policy for every table of these schemas with a column `tenant_id`, those included that have one.

    A partition gets none: whoever does not own it reads and writes it by way of its table only. The tables are locked together
    and briefly; where others hold them, it lets go and tries again.

    `later`: tables that the release before can't live with once rows have a policy. Where there are tenants already it may be
    running, and comes back with a rollback: these tables then have to be protected once more, without `later`.
    """
    tables = _TABLES.format(schemas=",".join(schemas))
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
            CONTINUE WHEN one.name::text = ANY('{{{",".join(later)}}}') AND EXISTS (SELECT FROM profiles.tenants);
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one.name);
        END LOOP;
    END
    $protect$
    """
