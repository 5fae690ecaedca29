"""What a feature or a trait is made of, and what is made of an event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapport.features.v1 import features_pb2

from chassis.errors import NotFound, Reason
from ml.features import catalogue
from ml.features.definition import digest, leaves, reads_of
from services.profiles.traits import Trait


@dataclass(frozen=True, slots=True)
class Lineage:
    """`set` and `set_digest` of a feature; `trait` of a trait. An empty list: all."""

    name: str
    set: str
    set_digest: str
    trait: Trait | None
    events: Sequence[str]
    types: Sequence[str]
    properties: Sequence[str]
    channels: Sequence[str]


def of_feature(name: str, traits: Sequence[Trait]) -> Lineage:
    """Raises NotFound."""
    for one in _all(traits):
        if one.name == name:
            return one
    raise NotFound("there is no feature or trait of that name", reason=Reason.UNKNOWN_FEATURE, field="feature")


def of_event(event: str, traits: Sequence[Trait]) -> list[Lineage]:
    """Everything that counts events of that name, whatever else it asks of them."""
    return [one for one in _all(traits) if not one.events or event in one.events]


def _all(traits: Sequence[Trait]) -> Iterator[Lineage]:
    for name, features in catalogue.SETS.items():
        set_digest = digest(features)
        for feature in features:
            yield _lineage(feature, name, set_digest, None)
    for trait in traits:
        yield _lineage(trait.definition, "", "", trait)


def _lineage(feature: features_pb2.Feature, set_: str, set_digest: str, trait: Trait | None) -> Lineage:
    filters = [one for leaf in leaves(feature) for one in (leaf.events.any_of or [leaf.events])]
    events = {name for one in filters for name in one.names}
    types = {one.type for one in filters if one.type}
    channels = {channel for one in filters for channel in one.channels}
    properties = {
        f"{read.array}.{read.property}" if read.array else read.property for leaf in leaves(feature) for read in reads_of(leaf)
    }
    # One part that takes every event makes the whole take every event; pages have no names to tell apart.
    every = any(not one.names and one.type not in ("page", "screen") for one in filters)
    return Lineage(
        feature.name,
        set_,
        set_digest,
        trait,
        [] if every else sorted(events),
        sorted(types),
        sorted(properties),
        sorted(channels),
    )
