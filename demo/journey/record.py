"""What the journey has found so far, phase by phase, on disk: a second run goes on where the first one ended."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from demo.journey.facts import Facts
from infra.failure import Refusal

# Raised when a step's meaning changes, so that an older record is not taken for its result.
FORMAT = 1


@dataclass(slots=True)
class Record:
    """`values` are the report's figures, `notes` what later steps need of earlier ones."""

    path: Path
    fingerprint: str
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    phases: list[str] = field(default_factory=list[str])
    # Of the simulated shop (customers, seed); empty of a file.
    shop: list[int] = field(default_factory=list[int])

    def put(self, **figures: Any) -> None:
        """Figures by key, with a double underscore for the dot: `put(rows__in=5)` is "rows.in"."""
        self.values |= {key.replace("__", "."): value for key, value in figures.items()}

    def miss(self, what: str, why: str) -> None:
        """Says why something is not in the report."""
        self.values[f"missing.{what}"] = why

    def end(self, phase: str, seconds: float) -> None:
        """Marks a phase as done and saves everything."""
        self.phases.append(phase)
        self.values[f"seconds.{phase}"] = round(seconds, 2)
        saved = {"fingerprint": self.fingerprint, "values": self.values, "notes": self.notes, "phases": self.phases}
        write_json(self.path, saved | {"shop": self.shop})


def open_record(facts: Facts, tenant: str) -> Record:
    """The record of this source in this state folder; a fresh one where the source has changed.

    Raises Refusal for a second simulated shop: the customers of both would be in one tenant, and no sum would hold.
    """
    path = facts.root / "journeys" / f"{tenant}.json"
    shop = [] if facts.data else [facts.customers, facts.seed]
    fresh = Record(path, fingerprint_of(facts), shop=shop)
    try:
        saved = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return fresh
    if (there := saved.get("shop")) and there != shop:
        raise Refusal(
            f"The state folder {facts.root} holds the simulated shop of CUSTOMERS={there[0]} SEED={there[1]}: "
            "choose another with STATE=."
        )
    if saved.get("fingerprint") != fresh.fingerprint:
        return fresh
    return Record(path, fresh.fingerprint, saved["values"], saved["notes"], saved["phases"], shop)


def fingerprint_of(facts: Facts) -> str:
    """Of the source: the file's path, size and time of change, or the shop's seed and size."""
    said: list[Any] = [FORMAT]
    if facts.data:
        for name in filter(None, (facts.data, facts.mapping)):
            about = Path(name).resolve()
            said += [str(about), about.stat().st_size, about.stat().st_mtime_ns]
    else:
        said += [facts.customers, facts.seed]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    os.replace(draft, path)
