"""The processes of one machine: names, ports, who calls whom. Everything else is derived from this table."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.ports import HOST

POSTGRES_OFFSET = 20
MLFLOW_OFFSET = 21
PROMETHEUS_OFFSET = 22
GATEWAY = "gateway"
CANDIDATE = "scoring-candidate"


@dataclass(frozen=True, slots=True)
class Service:
    """One process. Offsets are from the base port. A candidate is a second process of `service`, started on request."""

    name: str
    service: str
    offset: int
    metrics_offset: int
    peers: tuple[str, ...] = ()
    is_candidate: bool = False


ALL = ("profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")

SERVICES = (
    Service("gateway", "gateway", 0, 10, ALL),
    Service("profiles", "profiles", 1, 11),
    Service("segmentation", "segmentation", 2, 12, ("profiles",)),
    Service("scoring", "scoring", 3, 13, ("profiles",)),
    Service("recommendation", "recommendation", 4, 14, ("profiles",)),
    Service("feedback", "feedback", 5, 15, ("profiles",)),
    Service("evaluation", "evaluation", 6, 16, ("profiles",)),
    Service(CANDIDATE, "scoring", 30, 31, ("profiles",), is_candidate=True),
)
BY_NAME: Mapping[str, Service] = {service.name: service for service in SERVICES}

# Each stage waits for the one before, and is ended before it.
STAGES = (("profiles",), tuple(name for name in ALL if name != "profiles"), (GATEWAY,))


@dataclass(frozen=True, slots=True)
class Ports:
    """The addresses that follow from the base port."""

    base: int

    @property
    def postgres(self) -> int:
        return self.base + POSTGRES_OFFSET

    @property
    def mlflow(self) -> int:
        return self.base + MLFLOW_OFFSET

    @property
    def prometheus(self) -> int:
        return self.base + PROMETHEUS_OFFSET

    def listen(self, name: str) -> str:
        return f"{HOST}:{self.base + BY_NAME[name].offset}"

    def metrics(self, name: str) -> str:
        return f"{HOST}:{self.base + BY_NAME[name].metrics_offset}"

    def target(self, service: str) -> str:
        """For gRPC: all processes of the service. round_robin uses those that are up, so a candidate gets its share."""
        addresses = [self.listen(each.name) for each in SERVICES if each.service == service]
        return "ipv4:" + ",".join(addresses)

    def all(self) -> dict[str, int]:
        """What each port is for."""
        ports = {"PostgreSQL": self.postgres, "MLflow": self.mlflow, "Prometheus": self.prometheus}
        for service in SERVICES:
            ports[service.name] = self.base + service.offset
            ports[f"metrics of {service.name}"] = self.base + service.metrics_offset
        return ports


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service is told of the machine. `database_urls` by service, each its own role's."""

    ports: Ports
    database_urls: Mapping[str, str]
    master_key_file: str
    archive_folder: str
    import_folder: str
    model_folder: str
    prometheus_url: str = ""

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.ports.mlflow}"


def environment(name: str, around: Surroundings) -> dict[str, str]:
    """The settings of one process, as RAPPORT_<SERVICE>_<FIELD>."""
    spec = BY_NAME[name]
    fields = {
        "database_url": around.database_urls[spec.service],
        "listen": around.ports.listen(name),
        "metrics_listen": around.ports.metrics(name),
        **{f"{peer}_target": around.ports.target(peer) for peer in spec.peers},
        **_own_fields(spec.service, around),
    }
    return {f"RAPPORT_{spec.service.upper()}_{field.upper()}": value for field, value in fields.items()}


def _own_fields(service: str, around: Surroundings) -> dict[str, str]:
    match service:
        case "gateway":
            return {"port": str(around.ports.base)}
        case "profiles":
            return {
                "master_key_file": around.master_key_file,
                "archive_folder": around.archive_folder,
                "import_folder": around.import_folder,
            }
        case "scoring":
            return {"mlflow_url": around.mlflow_url, "model_folder": around.model_folder}
        case "evaluation":
            return {"mlflow_url": around.mlflow_url, "prometheus_url": around.prometheus_url}
        case _:
            return {}
