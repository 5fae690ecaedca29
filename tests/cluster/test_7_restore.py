"""A backup is worth what its restore is worth: the dump of a running platform holds every event, and can be read again."""

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
    kube = installed.kube
    last = kube.sql("SELECT max(seq) FROM log.events")
    kube.at_postgres(DUMP)
    kube.at_postgres(RESTORE)
    there, here = (kube.sql(EVENTS.format(last=last), database) for database in ("rapport", "restored"))
    assert there == here
    assert int(here.split()[0]) > 10_000
    tables = "SELECT string_agg(schemaname || '.' || relname, ' ' ORDER BY schemaname, relname) FROM pg_stat_user_tables"
    assert kube.sql(tables, "restored") == kube.sql(tables)
    kube.at_postgres("dropdb -U postgres -h 127.0.0.1 restored; rm /tmp/rapport.dump")
