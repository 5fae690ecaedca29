"""What an SRE gets wrong is one clear line where an SRE looks first, and the release that runs goes on serving."""

import base64
import json
from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from tests.cluster.conftest import FULL, TAG, Installed, dependencies, rapport, remove
from tests.cluster.kube import SERVICES, Kube, run, until
from tests.cluster.loader import Keys

QUICK = ("--set", "migration.deadlineSeconds=25,migration.retries=0", "--timeout", "90s")
BROKEN = """
from alembic import op

revision = "scoring_9999"
down_revision = "scoring_{head}"


def upgrade():
    op.execute("CREATE TABLE scoring.half_done (id int)")
    op.execute("SELECT 1 / 0")
"""

LOOK = """
import asyncio, asyncpg, os
async def look():
    connection = await asyncpg.connect(os.environ["RAPPORT_SCORING_DATABASE_URL"])
    print(await connection.fetchval("SELECT to_regclass('scoring.half_done')::text"))
asyncio.run(look())
"""

# What may call the database for longer than a hook lasts.
LABELS = {"name": "rapport", "instance": "rapport", "component": "retention", "part-of": "rapport"}


@pytest.fixture(autouse=True)
def still_serving(installed: Installed, keys: Keys) -> Iterator[None]:
    """Whatever was tried, the release that runs has gone on serving."""
    yield
    with installed.client(keys.private) as client:
        assert client.get("/v1/freshness").status_code == 200


def refused(installed: Installed, *words: str) -> str:
    """What helm says of an upgrade that must fail."""
    with pytest.raises(AssertionError) as error:
        installed.kube.helm(*rapport(), *QUICK, *words)
    return str(error.value)


def events(kube: Kube, text: str) -> bool:
    """Whether a warning of the namespace says so."""
    found = kube.get("events", "--field-selector", "type=Warning")["items"]
    return any(text in event.get("message", "") for event in found)


@pytest.mark.timeout(300)
def test_a_missing_secret_is_named_by_an_event_of_the_pod(installed: Installed) -> None:
    refused(installed, "--set", "database.existingSecret=no-such-secret")
    assert events(installed.kube, 'secret "no-such-secret" not found')


@pytest.mark.timeout(300)
def test_an_image_that_is_not_there_is_named_by_an_event_of_the_pod(installed: Installed) -> None:
    refused(installed, "--set", "image.tag=no-such-tag")
    until("the event", lambda: events(installed.kube, "no-such-tag"), patience_s=30)


@pytest.mark.timeout(300)
def test_a_database_that_cannot_be_reached_is_one_line_of_the_migrations_log(installed: Installed) -> None:
    kube = installed.kube
    found = kube.get("secret", "rapport-database")["data"]
    urls = {name: base64.b64decode(url).decode().replace("@postgres:", "@no-such-host:") for name, url in found.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lost-database"}, "stringData": urls}
    kube.ctl("apply", "-f", "-", stdin=json.dumps(secret))
    lines = run_once(kube, "lost", urls["owner"], expect="Failed").strip().splitlines()
    assert len(lines) == 1, "\n".join(lines)
    assert "no-such-host" in lines[0]
    assert urls["owner"].split(":")[2].split("@")[0] not in lines[0], "the password is in the log"


@pytest.mark.timeout(300)
def test_a_migration_that_fails_in_the_middle_leaves_nothing_half_done(installed: Installed) -> None:
    kube = installed.kube
    url = base64.b64decode(kube.get("secret", "rapport-database")["data"]["owner"]).decode()
    listing = "import os; print(*sorted(n[:4] for n in os.listdir('/app/services/scoring/migrations') if n[:4].isdigit()))"
    head = run_once(kube, "heads", url, "-c", listing).split()[-1]
    kube.ctl("create", "configmap", "broken", f"--from-literal=9999_broken.py={BROKEN.format(head=head)}")
    log = run_once(kube, "broken", url, "-m", "chassis.migrate", "scoring", mounted="broken", expect="Failed")
    assert "division by zero" in log
    table = kube.ctl("exec", "deployment/scoring", "--", "python", "-c", LOOK)
    assert table.strip() == "None"


def run_once(kube: Kube, name: str, url: str, *words: str, mounted: str = "", expect: str = "Succeeded") -> str:
    """The log of a pod of the migrations' image that ends as expected."""
    command = ["python", *(words or ("-m", "chassis.migrate"))]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[dict[str, object]] = [{"name": "tmp", "emptyDir": {}}]
    if mounted:
        path = "/app/services/scoring/migrations/9999_broken.py"
        mounts.append({"name": "mounted", "mountPath": path, "subPath": "9999_broken.py"})
        volumes.append({"name": "mounted", "configMap": {"name": mounted}})
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "once", "image": f"rapport/migrate:{TAG}", "imagePullPolicy": "IfNotPresent", "command": command,
        "env": [{"name": "RAPPORT_MIGRATE_URL", "value": url}], "securityContext": security, "volumeMounts": mounts,
    }  # fmt: skip
    spec = {
        "containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False, "volumes": volumes,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    labels = {f"app.kubernetes.io/{key}": value for key, value in LABELS.items()}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    kube.ctl("apply", "-f", "-", stdin=json.dumps(pod))
    until(f"{name} to be {expect}", lambda: kube.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"))
    assert kube.get("pod", name)["status"]["phase"] == expect, kube.ctl("logs", name)
    return kube.ctl("logs", name)


# All but 12 MB: room for some batches, and not for all.
FILL = """
cd /var/lib/rapport/postgres
free=$(df -k . | tail -1 | awk '{print $4}')
head -c $(((free - 12288) * 1024)) /dev/zero > filler
"""


@pytest.mark.skipif(not FULL, reason="FULL=1 installs a second time")
@pytest.mark.timeout(900)
def test_a_full_volume_is_said_by_the_database_and_answered_with_503() -> None:
    kube = Kube("rapport-full-volume")
    remove(kube.namespace)
    run("kubectl", "create", "namespace", kube.namespace)
    try:
        kube.helm(
            *dependencies(),
            "--set",
            "postgres.storage=memory,postgres.size=160Mi,postgres.resources.requests.cpu=20m",
            "--wait",
            "--timeout",
            "5m",
        )
        small = ",".join(f"services.{name}.replicas=1,services.{name}.resources.requests.cpu=5m" for name in SERVICES)
        kube.helm(
            *rapport(),
            "--set",
            f"gateway.nodePort=0,gateway.type=ClusterIP,archive.enabled=false,journey.enabled=false,{small}",
            "--wait",
            "--timeout",
            "5m",
        )
        key = first_key(kube)
        kube.ctl("exec", "postgres-0", "--", "sh", "-c", FILL)
        with kube.forwarded("service/gateway", 8080) as url:
            statuses = send_until_refused(url, key)
        assert set(statuses) <= {200, 503}, statuses
        assert statuses[-1] == 503
        assert "No space left on device" in kube.ctl("logs", "postgres-0", "--tail=200")
    finally:
        remove(kube.namespace)


def first_key(kube: Kube) -> str:
    """Of a new tenant. With next to no share of a busy node, what is ready may be too slow to answer: then of another one."""
    administer = ("deployment/gateway", "-m", "services.gateway.administer")

    def ask(name: str) -> str:
        try:
            kube.python(*administer, "create-tenant", name)
            return kube.python(*administer, "create-key", name, "--kind", "write").splitlines()[0]
        except AssertionError as error:
            if "does not answer" not in str(error):
                raise
            return ""

    names = (f"full-{number}" for number in count())
    return until("a tenant", lambda: ask(next(names)), pause_s=3)


def send_until_refused(url: str, key: str) -> list[int]:
    """The statuses of batches, to the first that is not taken."""
    statuses: list[int] = []
    with httpx.Client(base_url=url, auth=(key, ""), timeout=30, trust_env=False) as client:
        for number in range(400):
            calls = [{"type": "track", "userId": f"u{number}", "event": "x", "properties": {"pad": "x" * 1000}}] * 100
            statuses.append(client.post("/v1/batch", json={"batch": calls}).status_code)
            if statuses[-1] != 200:
                break
    return statuses
