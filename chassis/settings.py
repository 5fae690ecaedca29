"""Settings that every service has. Read once, in `main`; below it plain values."""

import sys
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis import telemetry


class ServiceSettings(BaseSettings):
    """Read from RAPPORT_<SERVICE>_<FIELD>. A service's own settings derive from it and name the prefix."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: str = Field(
        default="", description="PostgreSQL, as the service's own role: postgresql://role:password@host:port/rapport."
    )
    database_connections: int = Field(default=8, ge=1, le=64, description="Most connections of this process to PostgreSQL.")
    listen: str = Field(default="127.0.0.1:0", description="Address and port for gRPC; port 0 takes a free one.")
    metrics_listen: str = Field(default="127.0.0.1:0", description="Address and port for Prometheus' /metrics.")
    version: str = Field(default="0.3.0", description="Version shown in metrics; a rollout is judged by it.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    unready_s: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after SIGTERM in which a process is not ready and still answers, for callers to notice.",
    )
    grace_s: float = Field(default=10.0, ge=0, description="Seconds that calls in flight then have to end.")
    connection_age_s: float = Field(
        default=60.0,
        ge=0,
        description="Seconds after which a gRPC connection is renewed, so that new replicas get a share; 0: never.",
    )
    fault_ratio: float = Field(
        default=0.0, ge=0, le=1, description="Share of calls that fail on purpose, to rehearse a rollout. 0 in production."
    )


class KafkaSettings(ServiceSettings):
    """Of a process that speaks to Kafka."""

    kafka_brokers: str = Field(default="", description="Kafka's brokers, as host:port,host:port; empty: there is no Kafka.")
    kafka_topic: str = Field(default="rapport.log", description="The topic that holds the copy of the log.")
    # Checked in words where a process begins to speak to Kafka: chassis/log/kafka/security.py.
    kafka_security: str = Field(
        default="PLAINTEXT", description="How Kafka is spoken to: PLAINTEXT, SSL (TLS), or SASL_SSL (TLS, as a user)."
    )
    kafka_ca_file: str = Field(
        default="", description="File, in PEM, of who has signed the brokers' certificates; empty: whom the system trusts."
    )
    kafka_certificate_file: str = Field(
        default="", description="File, in PEM, with this client's certificate, where the brokers ask for one (mutual TLS)."
    )
    kafka_key_file: str = Field(default="", description="File, in PEM, with the key of that certificate.")
    kafka_sasl_mechanism: str = Field(
        default="SCRAM-SHA-512", description="How the user shows the password: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN."
    )
    kafka_user: str = Field(default="", description="The user's name, with SASL_SSL.")
    kafka_password_file: str = Field(
        default="", description="File with the user's password, with SASL_SSL; read anew for each connection."
    )


class ReaderSettings(KafkaSettings):
    """Of a service that follows the log."""

    log: Literal["postgres", "kafka"] = Field(
        default="postgres", description="Where the log is followed: postgres, or kafka, which the relay fills from it."
    )


def prefix_of(service: str) -> SettingsConfigDict:
    """The model_config of a service's settings."""
    return SettingsConfigDict(env_prefix=f"RAPPORT_{service.upper()}_", extra="ignore", frozen=True)


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def read(settings: type[SettingsT]) -> SettingsT:
    """From the environment. Each that is wrong is a line of the log that names it and says why; then exit code 2."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        telemetry.configure_logs(prefix.removeprefix("RAPPORT_").rstrip("_").lower())
        for wrong in error.errors(include_url=False, include_input=False):  # it may hold a password
            name = "_".join(str(part) for part in wrong["loc"]).upper()
            telemetry.logger().error("the process cannot start", setting=f"{prefix}{name}", detail=wrong["msg"])
        sys.exit(2)


def rows_of(settings: type[ServiceSettings]) -> list[tuple[str, str, str]]:
    """(environment variable, default, description) of each field, for docs/SETTINGS.md."""
    prefix = settings.model_config.get("env_prefix", "")
    return [
        (f"{prefix}{name.upper()}", _shown(field.default), field.description or "")
        for name, field in settings.model_fields.items()
    ]


def _shown(default: Any) -> str:
    return "" if default in ("", None) else str(default)
