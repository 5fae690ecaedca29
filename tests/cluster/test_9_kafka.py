"""The log in Kafka, in a second installation: every reader follows it there, and goes on where it was when Kafka comes back."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chassis.log import partition_of
from tests.cluster.conftest import FULL, KEEP, RESTRICTED, REUSE, Installed, dependencies, rapport, remove
from tests.cluster.counting import lost_and_doubled
from tests.cluster.kube import SERVICES, Kube, run, until
from tests.cluster.loader import Keys, Load, why
from tests.cluster.metrics import calls_of

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(not FULL, reason="FULL=1 installs a second time, with Kafka")]
NAMESPACE = "rapport-kafka"
PORT = 30081
TENANT, PARTITIONS = "fanned", 4
# One in each of the other partitions.
OTHERS = {partition_of(name, PARTITIONS): name for name in (f"fanned-{number}" for number in range(20))}
del OTHERS[partition_of(TENANT, PARTITIONS)]
READERS = ("segmentation", "scoring", "recommendation", "feedback", "evaluation")
# Two replicas of one, which share the partitions; the rest as small as it goes beside the first installation.
SMALL = ",".join(
    f"services.{name}.replicas={1 + (name == 'segmentation')},services.{name}.resources.requests.cpu=5m" for name in SERVICES
)
FANNED = f"log.source=kafka,relay.enabled=true,relay.replicas=1,relay.partitions={PARTITIONS},relay.resources.requests.cpu=5m"
ALONE = f"gateway.nodePort={PORT},archive.enabled=false,journey.enabled=false"
# One volume, Kafka's: a cluster for tests has few.
BELOW = "mlflow.enabled=false,prometheus.enabled=false,postgres.storage=memory,postgres.size=512Mi"
WITH_KAFKA = "postgres.resources.requests.cpu=20m,kafka.enabled=true,kafka.size=1Gi,kafka.resources.requests.cpu=20m"
SEGMENT, ORDERS = "buyers", 40


@pytest.fixture(scope="module")
def fanned() -> Iterator[Installed]:
    """Both charts, in an empty namespace that enforces `restricted`."""
    kube = Kube(NAMESPACE)
    if not REUSE:
        remove(NAMESPACE)
        run("kubectl", "create", "namespace", NAMESPACE)
        run("kubectl", "label", "namespace", NAMESPACE, RESTRICTED)
    started = time.monotonic()
    try:
        kube.helm(*dependencies(), "--set", f"{BELOW},{WITH_KAFKA}", "--wait", "--timeout", "5m")
        kube.helm(*rapport(), "--set", f"{ALONE},{FANNED},{SMALL}", "--wait", "--timeout", "6m")
        kube.rolled_out(*SERVICES, "relay")
        kube.python("deployment/gateway", "-m", "services.gateway.administer", "create-tenant", TENANT)
        yield Installed(kube, time.monotonic() - started, PORT)
    finally:
        if not KEEP:
            remove(NAMESPACE)


@pytest.fixture(scope="module")
def keys(fanned: Installed) -> Keys:
    return fanned.keys(TENANT)


@pytest.fixture(scope="module")
def traffic(fanned: Installed, keys: Keys) -> Iterator[Load]:
    """Numbered events, and reads."""
    with Load("127.0.0.1", PORT, keys, [], rate=20.0, name=f"fanned-{time.time_ns() // 1_000_000}") as load:
        time.sleep(5)
        yield load
    print(f"\n{load.table()}")


def logged(kube: Kube) -> int:
    """How many events the log has."""
    return int(kube.sql("SELECT count(*) FROM log.events"))


def metric_by_pod(kube: Kube, component: str, name: str) -> list[float]:
    with ExitStack() as stack:
        urls = [stack.enter_context(kube.forwarded(f"pod/{pod['metadata']['name']}", 9090)) for pod in kube.pods(component)]
        return [calls_of(url, name) for url in urls]


def metric(kube: Kube, component: str, name: str) -> float:
    """The sum over the component's pods."""
    return sum(metric_by_pod(kube, component, name))


def handled(kube: Kube) -> dict[str, int]:
    """By reader, since its pods began."""
    return {reader: int(metric(kube, reader, "rapport_log_reader_events_total")) for reader in READERS}


def wait_until_all_is_handled(kube: Kube) -> int:
    """Until every reader has handled exactly as many events as there are, while the services add theirs; returns how many."""
    seen: dict[str, object] = {}

    def same() -> bool:
        before = logged(kube)
        seen.update(handled(kube), log=before)
        return {*handled(kube).values(), logged(kube)} == {before}

    try:
        until("every reader to have handled every event once", same, patience_s=150, pause_s=3)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen}") from None
    return logged(kube)


def restarts(kube: Kube) -> int:
    """Of all containers but Kafka's."""
    found = [pod for pod in kube.get("pods")["items"] if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "kafka"]
    return sum(each["restartCount"] for pod in found for each in pod["status"].get("containerStatuses", []))


def order(installed: Installed, keys: Keys, first: int) -> None:
    """By so many people, one each."""
    calls = [
        {
            "type": "track", "userId": f"buyer-{number}", "event": "Order Completed", "messageId": f"order-{number}",
            "properties": {"order_id": f"o{number}", "revenue": 9.5, "products": [{"product_id": "P1", "name": "Tea"}]},
        }
        for number in range(first, first + ORDERS)
    ]  # fmt: skip
    with installed.client(keys.write) as client:
        client.post("/v1/batch", json={"batch": calls}).raise_for_status()


def add_tenant(installed: Installed, tenant: str) -> None:
    """With some events."""
    installed.kube.python("deployment/gateway", "-m", "services.gateway.administer", "create-tenant", tenant)
    calls = [{"type": "track", "userId": f"u{number}", "event": "Seen"} for number in range(20)]
    with installed.client(installed.key(tenant, "--kind", "write")) as client:
        client.post("/v1/batch", json={"batch": calls}).raise_for_status()


def follows(installed: Installed, keys: Keys, people: int) -> None:
    """The segment has them all, and recommendation knows each purchase once."""
    with installed.client(keys.private) as client:
        until(
            "the segment to follow",
            lambda: client.get(f"/v1/segments/{SEGMENT}").json()["memberCount"] == people,
            patience_s=90,
        )
        timeline = client.get(f"/v1/profiles/user_id:buyer-{people - 1}/events").json()["data"]
    assert [event["name"] for event in timeline].count("Order Completed") == 1
    count = "SELECT (SELECT count(*) FROM recommendation.purchases), (SELECT sum(purchase_count) FROM recommendation.volumes)"
    until("recommendation to follow", lambda: installed.kube.sql(count) == f"{people}|{people}", patience_s=60)


def test_every_reader_reads_from_kafka(fanned: Installed, keys: Keys, traffic: Load) -> None:
    kube = fanned.kube
    print(f"\nready after {fanned.seconds:.0f} s")
    with fanned.client(keys.private) as client:
        condition = {"feature": "orders_count", "operator": "greater_or_equal", "value": 1}
        client.post("/v1/segments", json={"key": SEGMENT, "name": "Buyers", "condition": condition}).raise_for_status()
    with traffic.phase("Kafka there"):
        order(fanned, keys, 0)
        for tenant in OTHERS.values():
            add_tenant(fanned, tenant)
    follows(fanned, keys, ORDERS)
    for reader in READERS:
        assert metric(kube, reader, "rapport_log_reader_broker_up") == len(kube.pods(reader)), reader
        assert metric(kube, reader, "rapport_log_reader_events_total") > 100, reader
        assert metric(kube, reader, "rapport_log_reader_refetched_events_total") == 0, f"{reader} had to read PostgreSQL"
    shares = until("both replicas to read", lambda: both(kube), patience_s=60, pause_s=2)
    print(f"events handled by segmentation's replicas: {shares}")


def both(kube: Kube) -> list[float]:
    """What each replica of segmentation has handled, once each has."""
    shares = metric_by_pod(kube, "segmentation", "rapport_log_reader_events_total")
    return shares if all(shares) else []


def test_a_kafka_that_is_killed_comes_back_and_reading_goes_on(fanned: Installed, keys: Keys, traffic: Load) -> None:
    kube = fanned.kube
    old = kube.get("pod", "kafka-0")["metadata"]["uid"]
    with traffic.phase("Kafka gone"):
        kube.ctl("delete", "pod", "kafka-0", "--grace-period=0", "--force", "--wait=false")
        order(fanned, keys, ORDERS)
        until("a new pod", lambda: kube.ready_pods("kafka") and kube.get("pod", "kafka-0")["metadata"]["uid"] != old)
        time.sleep(5)
    follows(fanned, keys, 2 * ORDERS)
    traffic.__exit__()
    calls = traffic.of("Kafka there", "Kafka gone")
    assert not any(call.failed for call in calls), why(calls)
    with fanned.client(keys.private) as client:
        accepted, lost, doubled = lost_and_doubled(client, traffic)
    count = wait_until_all_is_handled(kube)
    refetched = {reader: int(metric(kube, reader, "rapport_log_reader_refetched_events_total")) for reader in READERS}
    print(f"\n{accepted:,} events accepted, {lost} lost, {doubled} doubled; each of {len(READERS)} readers handled {count:,}")
    print(f"read from PostgreSQL since Kafka did not have them: {refetched}")
    assert (lost, doubled) == (0, 0)
    assert restarts(kube) == 0
    for reader in READERS:
        assert metric(kube, reader, "rapport_log_reader_dead_events_total") == 0, reader


def test_both_are_uninstalled(fanned: Installed) -> None:
    kube = fanned.kube
    kube.helm("uninstall", "rapport", "--wait", "--timeout", "2m")
    kube.helm("uninstall", "rapport-dependencies", "--wait", "--timeout", "2m")
    # The migration's Job is a hook of Helm's, and stays as its record.
    until("the end of all pods", lambda: {each["status"]["phase"] for each in kube.get("pods")["items"]} <= {"Succeeded"})
