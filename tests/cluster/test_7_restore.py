"""A backup is worth what its restore is worth: the dump of a running platform holds every event, and can be read again."""

import base64

import pytest

from tests.cluster.conftest import Installed

DUMP = "pg_dump -U postgres -h 127.0.0.1 --format=custom --file=/tmp/rapport.dump rapport"
RESTORE = (
    "dropdb -U postgres -h 127.0.0.1 --if-exists restored && createdb -U postgres -h 127.0.0.1 restored && "
    "pg_restore -U postgres -h 127.0.0.1 --dbname=restored /tmp/rapport.dump"
)
EVENTS = "SELECT count(*) || ' ' || md5(string_agg(md5(payload), '' ORDER BY xid, seq)) FROM log.events WHERE seq <= {last}"


@pytest.mark.timeout(300)
def test_a_backup_is_restored_event_for_event(installed: Installed, challenger: str) -> None:
    secret = installed.kube.get("secret", "postgres-admin")["data"]["password"]
    password = base64.b64decode(secret).decode()

    def shell(command: str) -> str:
        inside = f"export PGPASSWORD='{password}'; {command}"
        return installed.kube.ctl("exec", "postgres-0", "--", "sh", "-c", inside, timeout_s=200).strip()

    def ask(database: str, sql: str) -> str:
        return shell(f'psql -U postgres -h 127.0.0.1 -At -d {database} -c "{sql}"')

    last = ask("rapport", "SELECT max(seq) FROM log.events")
    shell(DUMP)
    shell(RESTORE)
    there, here = (ask(database, EVENTS.format(last=last)) for database in ("rapport", "restored"))
    assert there == here
    assert int(here.split()[0]) > 10_000
    tables = "SELECT string_agg(schemaname || '.' || relname, ' ' ORDER BY schemaname, relname) FROM pg_stat_user_tables"
    assert ask("restored", tables) == ask("rapport", tables)
    shell("dropdb -U postgres -h 127.0.0.1 restored; rm /tmp/rapport.dump")
