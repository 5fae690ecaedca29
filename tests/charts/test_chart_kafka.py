"""Who follows the log follows it in Kafka where the values say so, over TLS and as a user where they say that."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from chassis.log.kafka.security import options_of
from chassis.settings import KafkaSettings, ReaderSettings
from infra.images.contents import FOLLOWERS, IMAGES, KAFKA
from infra.topology import BY_NAME
from tests.authority import Authority
from tests.charts.rendering import KAFKA_CA, KAFKA_USER, RAPPORT, Manifest, named, of_kind, pods, render
from tests.charts.test_chart_network import NOUNS, READERS

ROOT: Final = Path(__file__).parents[2]
IN_KAFKA: Final = ("relay.enabled=true", "log.source=kafka", "journey.enabled=true")
PRODUCTION: Final = "values-production.yaml"
FOLDER: Final = "/var/lib/rapport/kafka"
WITH_A_CERTIFICATE: Final = ("outside.kafka.security=SSL", "outside.kafka.certificate.existingSecret=client", KAFKA_CA)


def settings_class(service: str) -> type[Any]:
    return importlib.import_module(f"services.{service}.main").Settings


def test_the_readers_are_all_services_that_follow_the_log() -> None:
    mains = {noun: (ROOT / "services" / noun / "main.py").read_text() for noun in NOUNS}
    assert set(NOUNS) <= set(BY_NAME)
    assert {noun for noun, text in mains.items() if "reader_of(" in text} == set(READERS)
    assert {noun for noun in NOUNS if issubclass(settings_class(noun), ReaderSettings)} == set(READERS)


@pytest.mark.parametrize("service", READERS)
def test_a_reader_follows_kafka_where_log_source_says_so(service: str) -> None:
    prefix = f"RAPPORT_{service.upper()}"
    assert f"{prefix}_LOG" not in named(render(RAPPORT), "ConfigMap", service)["data"], "postgres is the default"
    told = named(render(RAPPORT, *IN_KAFKA, "log.topic=shop.log"), "ConfigMap", service)["data"]
    assert (told[f"{prefix}_LOG"], told[f"{prefix}_KAFKA_BROKERS"]) == ("kafka", "kafka:9092")
    assert told[f"{prefix}_KAFKA_TOPIC"] == "shop.log"


@pytest.mark.parametrize("image", [*READERS, "profiles", "journey"])
def test_the_image_of_who_speaks_to_kafka_has_its_client(image: str) -> None:
    assert image == "journey" or image in FOLLOWERS
    assert not set(KAFKA) & set(IMAGES[image].left_out)
    assert "\naiokafka==" in f"\n{(ROOT / 'locks' / f'{image}.txt').read_text()}"


def speakers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, dict[str, str]]]:
    """(name, pod, environment) of who is told of brokers and follows the log there, or fills it."""
    for name, pod in pods(manifests):
        (container,) = pod["spec"]["containers"] if len(pod["spec"]["containers"]) == 1 else ({},)
        told = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
        for source in container.get("envFrom", []):
            told |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        if name in {"Deployment relay", "CronJob journey", *(f"Deployment {reader}" for reader in READERS)}:
            yield name, pod, told


def read_settings(name: str, told: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """As the process does, with its files in a folder of ours."""
    for variable in [each for each in os.environ if each.startswith("RAPPORT_")]:
        monkeypatch.delenv(variable)
    for variable, value in told.items():
        monkeypatch.setenv(variable, value.replace(FOLDER, str(folder)))
    noun = {"relay": "profiles", "journey": "scoring"}.get(name.split()[1], name.split()[1])
    return settings_class(noun)() if noun != "profiles" else importlib.import_module("services.profiles.settings").Settings()


@pytest.mark.parametrize(
    ("file", "settings", "protocol", "files"),
    [
        (f"{PRODUCTION} values-kafka-strimzi.yaml", (), "SASL_SSL", {"ca.crt", "password"}),
        (f"{PRODUCTION} values-kafka-managed.yaml", (), "SASL_SSL", {"password"}),
        ("values-dev.yaml", (*IN_KAFKA, *WITH_A_CERTIFICATE), "SSL", {"ca.crt", "user.crt", "user.key"}),
        ("values-dev.yaml", (*IN_KAFKA, *KAFKA_USER, KAFKA_CA), "SASL_SSL", {"ca.crt", "password"}),
        ("values-dev.yaml", IN_KAFKA, "PLAINTEXT", set[str]()),
    ],
)
def test_each_process_has_what_it_is_told_of_and_would_start_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, settings: tuple[str, ...], protocol: str, files: set[str]
) -> None:
    authority = Authority(tmp_path, "ca")
    signed = authority.sign("user")
    assert {signed.certificate.name, signed.key.name, authority.certificate.name} == {"user.crt", "user.key", "ca.crt"}
    (tmp_path / "password").write_text("secret")
    found = 0
    for name, pod, told in speakers(render(RAPPORT, *settings, file=file)):
        found += 1
        mounts = [each for each in pod["spec"]["containers"][0]["volumeMounts"] if each["name"] == "kafka"]
        assert mounts == ([{"name": "kafka", "mountPath": FOLDER, "readOnly": True}] if files else []), name
        assert mounted(pod) == files, name
        options = options_of(read_settings(name, told, tmp_path, monkeypatch))
        assert options["security_protocol"] == protocol
        assert options.get("sasl_plain_password") == ("secret" if "password" in files else None)
    assert found == len(READERS) + (1 if file.startswith(PRODUCTION) else 2)


def mounted(pod: Manifest) -> set[str]:
    sources = [
        each for volume in pod["spec"]["volumes"] if volume["name"] == "kafka" for each in volume["projected"]["sources"]
    ]
    return {item["path"] for source in sources for item in source["secret"]["items"]}


def test_the_secrets_are_those_of_strimzi_under_its_keys() -> None:
    manifests = render(RAPPORT, file=f"{PRODUCTION} values-kafka-strimzi.yaml")
    (volume,) = [
        each
        for each in named(manifests, "Deployment", "relay")["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "kafka"
    ]
    taken = {each["secret"]["name"]: each["secret"]["items"][0]["key"] for each in volume["projected"]["sources"]}
    assert taken == {"rapport-cluster-ca-cert": "ca.crt", "rapport": "password"}
    policy = named(manifests, "NetworkPolicy", "rapport-from-scoring")["spec"]["egress"]
    (peers,) = [rule["to"] for rule in policy if rule["ports"] == [{"protocol": "TCP", "port": 9093}]]
    assert peers[0]["podSelector"]["matchLabels"] == {"strimzi.io/cluster": "rapport"}


def test_who_does_not_follow_the_log_is_told_nothing_of_kafka() -> None:
    manifests = render(RAPPORT, *IN_KAFKA, *KAFKA_USER, KAFKA_CA)
    for noun in set(NOUNS) - set(READERS):
        assert "KAFKA" not in repr(named(manifests, "ConfigMap", noun)["data"])
        assert not mounted(named(manifests, "Deployment", noun)["spec"]["template"])
    assert {each["metadata"]["name"] for each in of_kind(manifests, "Secret")} == set(), (
        "a password is referred to, never written"
    )


def test_where_the_log_is_followed_in_postgres_only_the_relay_has_the_files() -> None:
    manifests = render(RAPPORT, "relay.enabled=true", "journey.enabled=true", *KAFKA_USER, KAFKA_CA)
    assert {name for name, pod in pods(manifests) if mounted(pod)} == {"Deployment relay"}
