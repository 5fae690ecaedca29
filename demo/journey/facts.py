"""What the journey is told of the platform and of the source."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

_PREFIX: Final = "RAPPORT_JOURNEY_"
_DATABASE: Final = "RAPPORT_GATEWAY_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Facts:
    """Comes as JSON on standard input, since it holds secrets: neither the command line nor the environment shows them."""

    gateway_url: str
    mlflow_url: str
    profiles_target: str
    gateway_database_url: str
    state: str
    data: str = ""
    mapping: str = ""
    customers: int = 2000
    seed: int = 1
    # Why there are no metrics; empty where there are.
    metrics_missing: str = ""
    # Settings of a second scoring process.
    candidate: dict[str, str] = field(default_factory=dict[str, str])
    # Seconds after which callers have found that process: none where they know its address, some where a name is looked up.
    notice_s: float = 0.0

    @property
    def root(self) -> Path:
        """The state folder."""
        return Path(self.state)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def of_environment(environment: Mapping[str, str] = os.environ) -> "Facts":
        """In a container all come as variables: RAPPORT_JOURNEY_<FIELD>, the gateway's database, scoring's settings."""
        said = {name.removeprefix(_PREFIX).lower(): value for name, value in environment.items() if name.startswith(_PREFIX)}
        candidate = {name: value for name, value in environment.items() if name.startswith("RAPPORT_SCORING_")}
        candidate["RAPPORT_SCORING_BASELINE_VERSION"] = said.pop("baseline_version", "")
        fields = {**said, "gateway_database_url": environment.get(_DATABASE, ""), "candidate": candidate}
        return msgspec.convert(fields, Facts, strict=False)

    @staticmethod
    def decode(text: bytes) -> "Facts":
        """From JSON."""
        return msgspec.json.decode(text, type=Facts)
