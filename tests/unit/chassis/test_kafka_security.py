"""Settings for Kafka that do not go together are refused in one sentence, which holds nothing that is secret."""

from pathlib import Path

import pytest

from chassis.errors import InvalidArgument
from chassis.log.kafka.security import options_of
from chassis.settings import KafkaSettings, prefix_of
from tests.authority import Authority, Signed

SECRET = "correct horse"  # the password


class Settings(KafkaSettings):
    model_config = prefix_of("weather")


def settings(**values: str) -> Settings:
    return Settings.model_validate({"kafka_brokers": "a:9093,b:9093", **{f"kafka_{name}": values[name] for name in values}})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Signed:
    return authority.sign("client")


@pytest.fixture
def password(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    return tmp_path / "password"


def refused(**values: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as error:
        options_of(settings(**values))
    assert "\n" not in error.value.message
    assert SECRET not in error.value.message
    return error.value


def test_nothing_said_is_in_the_clear() -> None:
    assert options_of(settings()) == {"bootstrap_servers": ["a:9093", "b:9093"], "security_protocol": "PLAINTEXT"}


def test_a_user_s_password_is_read_from_its_file_without_the_line_s_end(authority: Authority, password: Path) -> None:
    ca = str(authority.certificate)
    options = options_of(settings(security="SASL_SSL", ca_file=ca, user="rapport", password_file=str(password)))
    assert options["ssl_context"].check_hostname
    assert [certificate["serialNumber"] for certificate in options["ssl_context"].get_ca_certs()]
    del options["ssl_context"]
    assert options == {
        "bootstrap_servers": ["a:9093", "b:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "rapport",
        "sasl_plain_password": SECRET,
    }


def test_a_file_that_is_renewed_counts_for_the_next_client(password: Path) -> None:
    ours = settings(security="SASL_SSL", user="rapport", password_file=str(password))
    password.write_text("another")
    assert options_of(ours)["sasl_plain_password"] == "another"
    password.unlink()
    with pytest.raises(InvalidArgument, match="must name a file that can be read"):
        options_of(ours)


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"brokers": ""}, "brokers", "set RAPPORT_WEATHER_KAFKA_BROKERS to host:port"),
        (
            {"security": "TLS"},
            "security",
            "RAPPORT_WEATHER_KAFKA_SECURITY is 'TLS', and must be one of PLAINTEXT, SSL, SASL_SSL",
        ),
        ({"ca_file": "ca.crt"}, "ca_file", "counts for nothing with KAFKA_SECURITY PLAINTEXT: set that to SSL or SASL_SSL"),
        ({"user": "rapport"}, "user", "counts for nothing with KAFKA_SECURITY PLAINTEXT: set that to SASL_SSL"),
        ({"security": "SSL", "password_file": "p"}, "password_file", "nothing with KAFKA_SECURITY SSL: set that to SASL_SSL"),
        ({"security": "SASL_SSL"}, "user", "set RAPPORT_WEATHER_KAFKA_USER to the user's name"),
        (
            {"security": "SASL_SSL", "user": "rapport"},
            "password_file",
            "_KAFKA_PASSWORD_FILE to a file that holds the password",
        ),
        ({"security": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "sasl_mechanism", "must be one of SCRAM-SHA-512, SCRAM-SHA-256"),
        ({"security": "SSL", "key_file": "k"}, "certificate_file", "set RAPPORT_WEATHER_KAFKA_CERTIFICATE_FILE to its file"),
        ({"security": "SSL", "certificate_file": "c"}, "key_file", "set RAPPORT_WEATHER_KAFKA_KEY_FILE to its file"),
        ({"security": "SSL", "ca_file": "/no/such"}, "ca_file", "must name a file of certificates in PEM (no such file or dir"),
        ({"security": "SSL", "ca_file": __file__}, "ca_file", "must name a file of certificates in PEM (no certificate or crl"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, str], field: str, sentence: str) -> None:
    error = refused(**values)
    assert error.field == f"kafka_{field}"
    assert sentence in error.message


@pytest.mark.parametrize("text", [b"", b"\n", b"\xff\xfecorrect horse"])
def test_a_file_without_a_password_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "password").write_bytes(text)
    error = refused(security="SASL_SSL", user="rapport", password_file=str(tmp_path / "password"))
    assert "and this holds none" in error.message
    assert error.__cause__ is None


def test_a_key_that_is_another_s_is_refused(authority: Authority, client: Signed) -> None:
    other = authority.sign("other")
    error = refused(security="SSL", certificate_file=str(client.certificate), key_file=str(other.key))
    assert "RAPPORT_WEATHER_KAFKA_KEY_FILE its key" in error.message
    assert "mismatch" in error.message


def test_a_key_with_a_password_of_its_own_is_refused_and_asks_nobody(client: Signed, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(client.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode())))
    error = refused(security="SSL", certificate_file=str(client.certificate), key_file=str(locked))
    assert "with no password of its own" in error.message
