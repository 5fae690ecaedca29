"""What the journey is told of the platform and of the source."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec


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

    @property
    def root(self) -> Path:
        """The state folder."""
        return Path(self.state)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(text: bytes) -> "Facts":
        """From JSON."""
        return msgspec.json.decode(text, type=Facts)
