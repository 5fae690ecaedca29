"""How Kafka is spoken to: in the clear, over TLS, or over TLS as a user. Settings that do not go together are refused in words.

No message holds what is in a file. The files are read anew for each client, so a Secret that was renewed counts at once.
"""

import ssl
from pathlib import Path
from typing import Any, Final

from chassis.errors import InvalidArgument, Reason
from chassis.settings import KafkaSettings

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_SSL")
MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_CERTIFICATE: Final = ("kafka_certificate_file", "kafka_key_file")
_USER: Final = ("kafka_user", "kafka_password_file")
_NOT_FOR: Final = {"PLAINTEXT": ("kafka_ca_file", *_CERTIFICATE, *_USER), "SSL": _USER, "SASL_SSL": ()}


def options_of(settings: KafkaSettings) -> dict[str, Any]:
    """What each client is made with. Raises InvalidArgument."""
    _check(settings)
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_brokers.split(","),
        "security_protocol": settings.kafka_security,
    }
    if settings.kafka_security != "PLAINTEXT":
        options["ssl_context"] = _tls(settings)
    if settings.kafka_security == "SASL_SSL":
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": _password(settings),
        }
    return options


def variable(settings: KafkaSettings, field: str) -> str:
    """What an operator sets."""
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def _check(settings: KafkaSettings) -> None:
    protocol = settings.kafka_security
    if not settings.kafka_brokers:
        raise _missing(settings, "kafka_brokers", "no brokers are named", "host:port,host:port")
    _one_of(settings, "kafka_security", PROTOCOLS)
    for field in _NOT_FOR[protocol]:
        if getattr(settings, field):
            right = "SASL_SSL" if field in _USER else "SSL or SASL_SSL"
            raise _wrong(
                settings, field, f"counts for nothing with KAFKA_SECURITY {protocol}: set that to {right}, or this to nothing"
            )
    if protocol == "SASL_SSL":
        _one_of(settings, "kafka_sasl_mechanism", MECHANISMS)
        for field, right in zip(_USER, ("the user's name", "a file that holds the password"), strict=True):
            if not getattr(settings, field):
                raise _missing(settings, field, "KAFKA_SECURITY is SASL_SSL, which needs a user with a password", right)
    for field, other in (_CERTIFICATE, _CERTIFICATE[::-1]):
        if getattr(settings, field) and not getattr(settings, other):
            raise _missing(settings, other, "a certificate and its key go together, and one of them is missing", "its file")


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca_file or None)
    except OSError as error:
        raise _wrong(settings, "kafka_ca_file", f"must name a file of certificates in PEM ({_said(error)})") from None
    if settings.kafka_certificate_file:
        try:  # a key with a password of its own would ask for it at the terminal
            context.load_cert_chain(settings.kafka_certificate_file, settings.kafka_key_file, password="")
        except OSError as error:
            key = variable(settings, "kafka_key_file")
            sentence = f"must name a certificate in PEM, and {key} its key, with no password of its own ({_said(error)})"
            raise _wrong(settings, "kafka_certificate_file", sentence) from None
    return context


def _password(settings: KafkaSettings) -> str:
    try:
        password = Path(settings.kafka_password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise _wrong(settings, "kafka_password_file", f"must name a file that can be read ({_said(error)})") from None
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise _wrong(settings, "kafka_password_file", "must name a file that holds the password, as UTF-8, and this holds none")
    return password


def _said(error: OSError) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or type(error).__name__).replace("_", " ").lower()


def _one_of(settings: KafkaSettings, field: str, allowed: tuple[str, ...]) -> None:
    if (value := getattr(settings, field)) not in allowed:
        raise _wrong(settings, field, f"is {value[:40]!r}, and must be one of {', '.join(allowed)}")


def _wrong(settings: KafkaSettings, field: str, sentence: str) -> InvalidArgument:
    return InvalidArgument(f"{variable(settings, field)} {sentence}", field=field)


def _missing(settings: KafkaSettings, field: str, sentence: str, right: str) -> InvalidArgument:
    message = f"{sentence}: set {variable(settings, field)} to {right}"
    return InvalidArgument(message, reason=Reason.MISSING_FIELD, field=field)
