"""Over TLS and as a user, with a broker that speaks nothing else to us: who is right gets through, who is not is told why."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from chassis.errors import Unavailable
from chassis.log import Cursor
from chassis.log.kafka.client import administering
from infra.kafka import Broker, Missing, fetch
from infra.ports import HOST, free_port
from infra.postgres import Temporary
from services.profiles.settings import Settings
from tests.authority import Authority, Signed
from tests.integration.chassis.logs import KafkaWorld, new_world, process, running, until

USER, PASSWORD = "rapport", "correct-horse-battery"
WRONG = "incorrect-donkey-battery"
JAAS = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker, with one port for clients with a certificate and one for users."""

    folder: Path
    authority: Authority
    client: Signed
    tls: str
    users: str

    def password(self, text: str = PASSWORD) -> str:
        """Its file."""
        (self.folder / text).write_text(f"{text}\n")
        return str(self.folder / text)

    def as_user(self, **values: str) -> dict[str, str]:
        """Settings of a user who is right, but for these."""
        right = {"brokers": self.users, "security": "SASL_SSL", "ca_file": str(self.authority.certificate), "user": USER}
        return _named({**right, "password_file": self.password(), **values})

    def as_client(self, **values: str) -> dict[str, str]:
        """Of one with a certificate."""
        files = {"certificate_file": str(self.client.certificate), "key_file": str(self.client.key)}
        return _named({"brokers": self.tls, "security": "SSL", "ca_file": str(self.authority.certificate), **files, **values})


def _named(values: dict[str, str]) -> dict[str, str]:
    return {f"kafka_{name}": value for name, value in values.items()}


def _properties(authority: Authority, signed: Signed, tls: int, users: int) -> dict[str, str]:
    of_users = "listener.name.sasl_ssl"
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:@PORT@,SSL://:{tls},SASL_SSL://:{users},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@",
        "advertised.listeners": f"PLAINTEXT://@HOST@:@PORT@,SSL://@HOST@:{tls},SASL_SSL://@HOST@:{users}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(signed.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.ssl.ssl.client.auth": "required",
        f"{of_users}.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        f"{of_users}.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
        f"{of_users}.plain.sasl.jaas.config": f'{JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    try:
        jars = fetch()
    except Missing as error:
        pytest.skip(f"There is no Kafka here: {error}")
    folder = tmp_path_factory.mktemp("secured")
    authority, tls, users = Authority(folder, "authority"), free_port(), free_port()
    more = _properties(authority, authority.sign("broker", HOST), tls, users)
    broker = Broker(jars, folder / "broker", more=more, users=[f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"])
    await broker.start()
    yield Secured(folder, authority, authority.sign("client"), f"{HOST}:{tls}", f"{HOST}:{users}")
    await broker.stop()


@pytest_asyncio.fixture
async def world(platform_database: Temporary, secured: Secured) -> AsyncIterator[KafkaWorld]:
    """With the settings of a user who is right."""
    async with new_world(platform_database, secured.users) as world:
        assert isinstance(world, KafkaWorld)
        world.settings = world.settings.model_copy(update=secured.as_user())
        yield world


def broker_up() -> float | None:
    return REGISTRY.get_sample_value("rapport_log_reader_broker_up", {"consumer": "test"})


@pytest.mark.parametrize("who", ["a user with SCRAM", "a user with PLAIN", "a client with a certificate"])
async def test_who_is_right_writes_and_reads(world: KafkaWorld, secured: Secured, who: str) -> None:
    right = {
        "a user with SCRAM": secured.as_user(),
        "a user with PLAIN": secured.as_user(sasl_mechanism="PLAIN"),
        "a client with a certificate": secured.as_client(),
    }[who]
    world.settings = world.settings.model_copy(update={"kafka_user": "", "kafka_password_file": "", **right})
    async with running(world.relay().follow):
        await until(world.has_topic)
        await world.write(b"1", b"2", b"3")
        assert await world.read_all() == [b"1", b"2", b"3"]
    assert broker_up() == 1


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("password", "refuses the user or the password of KAFKA_USER and KAFKA_PASSWORD_FILE"),
        ("user", "refuses the user or the password of KAFKA_USER and KAFKA_PASSWORD_FILE"),
        ("mechanism", "does not know the mechanism of KAFKA_SASL_MECHANISM"),
        ("authority", "is not trusted: KAFKA_CA_FILE must hold who has signed it"),
        ("system's authorities", "is not trusted: KAFKA_CA_FILE must hold who has signed it"),
        ("host", "is for another host than KAFKA_BROKERS names"),
        ("port", "KAFKA_SECURITY or KAFKA_CERTIFICATE_FILE is not what it wants"),
        ("certificate", "KAFKA_SECURITY or KAFKA_CERTIFICATE_FILE is not what it wants"),
        ("no certificate", "KAFKA_SECURITY or KAFKA_CERTIFICATE_FILE is not what it wants"),
    ],
)
async def test_who_is_wrong_is_refused_with_the_reason(
    world: KafkaWorld, secured: Secured, tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str, sentence: str
) -> None:
    other = Authority(tmp_path, "other")
    stranger = other.sign("stranger")
    wrong = {
        "password": lambda: secured.as_user(password_file=secured.password(WRONG)),
        "user": lambda: secured.as_user(user="nobody"),
        "mechanism": lambda: secured.as_user(sasl_mechanism="SCRAM-SHA-256"),
        "authority": lambda: secured.as_user(ca_file=str(other.certificate)),
        "system's authorities": lambda: secured.as_user(ca_file=""),
        "host": lambda: secured.as_user(brokers=secured.users.replace(HOST, "localhost")),
        "port": lambda: secured.as_user(brokers=secured.tls),
        "certificate": lambda: secured.as_client(certificate_file=str(stranger.certificate), key_file=str(stranger.key)),
        "no certificate": lambda: secured.as_client(certificate_file="", key_file=""),
    }[what]()
    world.settings = Settings.model_validate({"kafka_topic": world.settings.kafka_topic, **wrong})
    sentence = sentence.replace("KAFKA_", "RAPPORT_PROFILES_KAFKA_")
    with pytest.raises(Unavailable, match=sentence):
        async with administering(world.settings):
            pass
    reader = world.reader()
    with pytest.raises(Unavailable, match=sentence):
        await reader.step(world.handle)
    assert broker_up() == 0
    said = "".join(capfd.readouterr())
    assert sentence in said
    assert PASSWORD not in said
    assert WRONG not in said


def environment(world: KafkaWorld, settings: dict[str, str]) -> dict[str, str]:
    """Of the relay's process."""
    own = {"database_url": world.dsn, "kafka_topic": world.settings.kafka_topic, "kafka_partitions": "4", **settings}
    return {f"RAPPORT_PROFILES_{name.upper()}": value for name, value in own.items()}


async def test_a_password_that_is_put_right_counts_without_a_restart(
    world: KafkaWorld, secured: Secured, tmp_path: Path
) -> None:
    """Of the relay and of a reader: both wait, and say why; nothing secret is in what they say."""
    password, log = tmp_path / "password", tmp_path / "output"
    password.write_text(WRONG)
    ours = secured.as_user(password_file=str(password))
    world.settings = world.settings.model_copy(update=ours)

    async def both_are_told() -> bool:
        return "refuses the user or the password" in log.read_text() and broker_up() == 0

    async def all_is_done() -> bool:
        return len(await world.effects()) == 3

    await world.write(b"1", b"2", b"3")
    reader = world.reader()
    command = "services.profiles.relay"
    async with process(tmp_path, command, **environment(world, ours)) as relay, running(lambda: reader.follow(world.handle)):
        await until(both_are_told)
        await asyncio.sleep(3)
        assert relay.poll() is None, "it waits"
        password.write_text(PASSWORD)
        await until(all_is_done)
        assert relay.poll() is None
    assert [payload for _, payload in await world.effects()] == [b"1", b"2", b"3"]
    async with world.database.connection() as connection:
        assert await Cursor("profiles", "relay").load(connection) > (0, 0)
    said = log.read_text()
    assert PASSWORD not in said
    assert WRONG not in said


async def test_settings_that_do_not_go_together_end_the_relay_with_one_line(
    world: KafkaWorld, secured: Secured, tmp_path: Path
) -> None:
    wrong = secured.as_user(security="PLAINTEXT")
    async with process(tmp_path, "services.profiles.relay", **environment(world, wrong)) as relay:
        assert await asyncio.to_thread(relay.wait, 30) == 2
    (line,) = (tmp_path / "output").read_text().splitlines()
    assert "RAPPORT_PROFILES_KAFKA_CA_FILE counts for nothing with KAFKA_SECURITY PLAINTEXT" in line
    assert PASSWORD not in line


async def test_what_was_set_aside_is_played_again_by_the_same_settings(secured: Secured, tmp_path: Path) -> None:
    """`replay_dead` of a consumer that has set nothing aside: it gets through, and says so."""
    own = {f"RAPPORT_SEGMENTATION_{name.upper()}": value for name, value in secured.as_user().items()}
    async with process(tmp_path, "chassis.log.replay_dead", "segmentation", **own) as replay:
        assert await asyncio.to_thread(replay.wait, 60) == 2
    assert "there is no topic rapport.log.dead.segmentation" in (tmp_path / "output").read_text()
    own["RAPPORT_SEGMENTATION_KAFKA_PASSWORD_FILE"] = secured.password(WRONG)
    async with process(tmp_path, "chassis.log.replay_dead", "segmentation", **own) as replay:
        assert await asyncio.to_thread(replay.wait, 60) == 2
    assert "refuses the user or the password" in (tmp_path / "output").read_text()
