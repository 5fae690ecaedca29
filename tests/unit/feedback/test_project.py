"""What an event of the log says to feedback."""

import json
from uuid import UUID

import pytest
from rapport.profiles.v1.event_pb2 import Event

from services.feedback.domain import Enrolment
from services.feedback.project import said_by

ANN, BOB = str(UUID(int=1)), str(UUID(int=2))


def event(name: str, source: str, properties: object, channel: str = "") -> Event:
    raw = json.dumps(properties).encode()
    return Event(type="track", name=name, node_id=ANN, source=source, channel=channel, properties=raw)


def test_facts_of_segments_and_merges_are_understood() -> None:
    entered = event("Segment Entered", "rapport.segmentation", {"segment": "loyal", "version": 2})
    exited = event("Segment Exited", "rapport.segmentation", {"segment": "loyal", "version": 2})
    merged = event("Profile Merged", "rapport.profiles", {"from": ANN, "into": BOB, "since": "2026-01-01T00:00:00Z"})
    assert said_by(entered) == Enrolment("loyal", UUID(ANN), True)
    assert said_by(exited) == Enrolment("loyal", UUID(ANN), False)
    assert said_by(merged) == (UUID(ANN), UUID(BOB))


@pytest.mark.parametrize(
    "said",
    [
        event("Order Completed", "shop", {"segment": "loyal"}),
        event("", "", {}),
        event("Segment Entered", "shop", {"segment": "loyal"}),
        event("Segment Entered", "rapport.profiles", {"segment": "loyal"}),
        event("Segment Entered", "rapport.segmentation", {"segment": "loyal"}, channel="rapport.segmentation"),
        event("Profile Merged", "", {"from": ANN, "into": BOB}),
        event("Profile Merged", "rapport.profiles", {"from": ANN}),
        event("Profile Merged", "rapport.profiles", {"from": "ann", "into": "bob"}),
        event("Profile Merged", "rapport.profiles", [ANN, BOB]),
        event("Profile Merged", "rapport.profiles", {"from": 1, "into": 2}),
    ],
)
def test_what_a_client_says_or_nobody_understands_says_nothing(said: Event) -> None:
    assert said_by(said) is None
