"""What follows from what people said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.consent import (
    STRICT,
    Basis,
    Channel,
    Ground,
    Record,
    State,
    channel_of,
    check_origin,
    decide,
    newest,
    preferences_of,
    purpose_of,
    said_in_call,
)

START = datetime(2026, 3, 1, tzinfo=UTC)
ANY, EMAIL, SMS, WHATSAPP = Channel.ANY, Channel.EMAIL, Channel.SMS, Channel.WHATSAPP
GRANTED, DENIED, UNKNOWN = State.GRANTED, State.DENIED, State.UNKNOWN
BASES: list[Basis | None] = [*Basis, None]


def said(channel: Channel, state: State, day: int, event: int = 0) -> Record:
    ts = START + timedelta(days=day)
    return Record("marketing", channel, state, "checkout", "v1", ts, ts, event.to_bytes(16, "big"))


@pytest.mark.parametrize(
    ("basis", "channel", "is_allowed", "ground"),
    [
        (Basis.CONSENT, ANY, False, Ground.LEGAL_BASIS),
        (Basis.CONSENT, EMAIL, False, Ground.LEGAL_BASIS),
        (Basis.LEGITIMATE_INTEREST, ANY, True, Ground.LEGAL_BASIS),
        (Basis.LEGITIMATE_INTEREST, EMAIL, True, Ground.LEGAL_BASIS),
        (Basis.CONTRACT, Channel.POST, True, Ground.LEGAL_BASIS),
        (None, ANY, True, Ground.LEGAL_BASIS),
        (None, EMAIL, True, Ground.LEGAL_BASIS),
        *((basis, channel, False, Ground.CHANNEL_DEFAULT) for basis in BASES for channel in sorted(STRICT)),
    ],
)
def test_where_nothing_was_said_basis_and_channel_decide(
    basis: Basis | None, channel: Channel, is_allowed: bool, ground: Ground
) -> None:
    decision = decide([], basis, channel)
    assert (decision.is_allowed, decision.state, decision.ground) == (is_allowed, UNKNOWN, ground)


@pytest.mark.parametrize(
    ("records", "channel", "is_allowed", "ground"),
    [
        ([said(ANY, GRANTED, 1)], EMAIL, True, Ground.ANY_CHANNEL),
        ([said(ANY, DENIED, 1)], EMAIL, False, Ground.ANY_CHANNEL),
        # A channel's own word wins, also over a later grant for all.
        ([said(ANY, GRANTED, 2), said(EMAIL, DENIED, 1)], EMAIL, False, Ground.CHANNEL),
        ([said(ANY, DENIED, 1), said(EMAIL, GRANTED, 2)], EMAIL, True, Ground.CHANNEL),
        ([said(ANY, DENIED, 1), said(EMAIL, GRANTED, 2)], ANY, False, Ground.ANY_CHANNEL),
        ([said(EMAIL, GRANTED, 1)], Channel.POST, False, Ground.LEGAL_BASIS),
        # Who takes everything back takes back the channels too; at the same instant the stricter counts.
        ([said(EMAIL, GRANTED, 1), said(ANY, DENIED, 2)], EMAIL, False, Ground.ANY_CHANNEL),
        ([said(EMAIL, GRANTED, 1), said(ANY, DENIED, 1)], EMAIL, False, Ground.ANY_CHANNEL),
        # A new grant for all does not bring the old one back.
        ([said(SMS, GRANTED, 1), said(ANY, DENIED, 2), said(ANY, GRANTED, 3)], SMS, False, Ground.CHANNEL_DEFAULT),
        ([said(EMAIL, GRANTED, 1), said(ANY, DENIED, 2), said(ANY, GRANTED, 3)], EMAIL, True, Ground.ANY_CHANNEL),
        # A grant for all channels is none for a strict one.
        ([said(ANY, GRANTED, 1)], SMS, False, Ground.CHANNEL_DEFAULT),
        ([said(SMS, GRANTED, 1)], SMS, True, Ground.CHANNEL),
        ([said(SMS, GRANTED, 1)], WHATSAPP, False, Ground.CHANNEL_DEFAULT),
        ([said(SMS, GRANTED, 1), said(SMS, DENIED, 2)], SMS, False, Ground.CHANNEL),
        ([said(SMS, GRANTED, 1), said(ANY, DENIED, 2)], SMS, False, Ground.ANY_CHANNEL),
        # What was taken back was never said.
        ([said(SMS, GRANTED, 1), said(SMS, UNKNOWN, 2)], SMS, False, Ground.CHANNEL_DEFAULT),
        ([said(EMAIL, DENIED, 1), said(EMAIL, UNKNOWN, 2), said(ANY, GRANTED, 0)], EMAIL, True, Ground.ANY_CHANNEL),
        ([said(ANY, GRANTED, 1), said(ANY, UNKNOWN, 2)], EMAIL, False, Ground.LEGAL_BASIS),
    ],
)
def test_what_was_said_decides(records: list[Record], channel: Channel, is_allowed: bool, ground: Ground) -> None:
    decision = decide(records, Basis.CONSENT, channel)
    assert (decision.is_allowed, decision.ground) == (is_allowed, ground)


RECORDS = st.lists(
    st.builds(said, st.sampled_from([ANY, EMAIL, SMS]), st.sampled_from(list(State)), st.integers(0, 3), st.integers(0, 2**40)),
    max_size=8,
    unique_by=lambda each: each.event_id,
)
CHANNELS = st.sampled_from([ANY, EMAIL, SMS, WHATSAPP])


@given(records=RECORDS, chance=st.randoms(use_true_random=False), channel=CHANNELS, basis=st.sampled_from(BASES))
def test_it_does_not_matter_in_which_order_it_is_told_nor_how_often(
    records: list[Record], chance: Any, channel: Channel, basis: Basis | None
) -> None:
    again = [*records, *chance.sample(records, len(records) // 2)]
    chance.shuffle(again)
    assert decide(again, basis, channel) == decide(records, basis, channel)


@given(records=RECORDS, channel=CHANNELS, basis=st.sampled_from(BASES))
def test_only_the_last_time_that_each_thing_was_said_counts(
    records: list[Record], channel: Channel, basis: Basis | None
) -> None:
    last = {
        key: max(each.ts for each in records if (each.channel, each.state) == key)
        for key in {(each.channel, each.state) for each in records}
    }
    kept = [each for each in records if each.ts == last[each.channel, each.state]]
    assert decide(kept, basis, channel) == decide(records, basis, channel)


@given(records=RECORDS, channel=CHANNELS, basis=st.sampled_from(BASES))
def test_a_denial_that_comes_last_always_holds(records: list[Record], channel: Channel, basis: Basis | None) -> None:
    assert not decide([*records, said(channel, DENIED, 3)], basis, channel).is_allowed
    assert not decide([*records, said(ANY, DENIED, 3)], basis, channel).is_allowed


@given(records=RECORDS, channel=st.sampled_from(sorted(STRICT)), basis=st.sampled_from(BASES))
def test_a_strict_channel_is_never_allowed_without_its_own_grant(
    records: list[Record], channel: Channel, basis: Basis | None
) -> None:
    last = newest(records, channel)
    assert not decide(records, basis, channel).is_allowed or (last is not None and last.state is GRANTED)


def test_of_two_at_one_instant_the_stricter_counts() -> None:
    both = [said(EMAIL, GRANTED, 1, event=9), said(EMAIL, UNKNOWN, 1, event=5), said(EMAIL, DENIED, 1, event=1)]
    for records in (both, both[::-1]):
        found = newest(records, EMAIL)
        assert found is not None
        assert found.state is DENIED


def test_preferences_are_read_as_segment_documents_them() -> None:
    preferences = {"Advertising": True, "Analytics": False}
    assert preferences_of({"consent": {"categoryPreferences": preferences}, "ip": "1.2.3.4"}) == preferences
    found = said_in_call(preferences, "analytics.js")
    assert [(each.purpose, each.channel, each.state, each.source) for each in found] == [
        ("Advertising", ANY, GRANTED, "analytics.js"),
        ("Analytics", ANY, DENIED, "analytics.js"),
    ]


@pytest.mark.parametrize(
    "context",
    [
        None,
        {},
        {"consent": True},
        {"consent": {"categoryPreferences": ["Advertising"]}},
        {"consent": {"categoryPreferences": {"Advertising": "yes"}}},
        {"consent": {"categoryPreferences": {"Advertising": 1}}},
        {"consent": {"categoryPreferences": {"ada@example.com": True}}},
        {"consent": {"categoryPreferences": {"": True}}},
        {"consent": {"categoryPreferences": {str(number): True for number in range(51)}}},
    ],
)
def test_preferences_that_cannot_be_read_are_refused(context: Any) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        preferences_of(context)
    assert refusal.value.field == "context.consent.categoryPreferences"
    assert refusal.value.reason in (Reason.MISSING_FIELD, Reason.INVALID_FIELD)


def test_words_are_checked_by_their_field() -> None:
    assert channel_of("", "channel") is ANY
    assert purpose_of("Newsletter & offers", "purpose") == "Newsletter & offers"
    for wrong in (
        lambda: channel_of("e-mail", "field"),
        lambda: purpose_of("", "field"),
        lambda: purpose_of("x" * 65, "field"),
        lambda: purpose_of("a\nb", "field"),
        lambda: purpose_of("ada@example.com", "field"),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            wrong()
        assert refusal.value.field == "field"
    check_origin("app/settings", "terms-2026-03")
    check_origin("checkout", "")
    for source, version, field in (("", "v1", "source"), ("Ada said so", "v1", "source"), ("web", "a b", "proof_version")):
        with pytest.raises(InvalidArgument) as refusal:
            check_origin(source, version)
        assert refusal.value.field == field
