"""The keyring: looks keys up seldom, forgets in time, and cannot be filled."""

import asyncio
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.errors import Exhausted, Reason, Unauthenticated, Unavailable
from services.gateway import keyring as module
from services.gateway.domain import Key, Kind, Pace, Scope, digest_of, key_id_of, write_key_text
from services.gateway.keyring import FRESH_S, Caller, Keyring, key_text_of, refuse_haste

TEXT = write_key_text(Kind.PRIVATE, identity=bytes(6), secret=bytes(32))
KEY = Key(key_id_of(TEXT) or "", "demo", Kind.PRIVATE, frozenset({Scope.READ}), digest_of(TEXT), datetime.now(UTC))
BEARER = f"Bearer {TEXT}"


class Cupboard:
    """Where keys are kept; counts who looks."""

    def __init__(self) -> None:
        self.keys = {KEY.key_id: KEY}
        self.looks = 0
        self.is_locked = False
        self.now = 0.0

    async def find(self, key_id: str) -> Key | None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.is_locked:
            raise Unavailable("the database does not answer", reason=Reason.DATABASE_UNAVAILABLE)
        return self.keys.get(key_id)


@pytest.fixture
def cupboard() -> Cupboard:
    return Cupboard()


@pytest.fixture
def keyring(cupboard: Cupboard) -> Keyring:
    return Keyring(cupboard.find, rate_per_s=2, clock=lambda: cupboard.now)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, ""),
        ("", ""),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic " + b64encode(b"abc:").decode(), "abc"),
        ("basic " + b64encode(b"abc:password").decode(), "abc"),
        ("Basic " + b64encode(b"abc").decode(), "abc"),
        ("Basic not base64", "not base64"),
        ("Basic " + b64encode("ключ:".encode()).decode(), b64encode("ключ:".encode()).decode()),
        ("Digest abc", ""),
    ],
)
def test_a_key_is_read_from_either_header(header: str | None, text: str) -> None:
    assert key_text_of(header) == text


async def test_a_key_is_looked_up_once_while_it_is_fresh(keyring: Keyring, cupboard: Cupboard) -> None:
    for _ in range(3):
        assert (await keyring.caller_of(BEARER)).tenant == "demo"
    assert cupboard.looks == 1


async def test_all_who_wait_for_a_key_wait_for_one_look(keyring: Keyring, cupboard: Cupboard) -> None:
    await asyncio.gather(*(keyring.caller_of(BEARER) for _ in range(20)))
    assert cupboard.looks == 1


async def test_a_revoked_key_is_refused_when_its_freshness_ends(keyring: Keyring, cupboard: Cupboard) -> None:
    await keyring.caller_of(BEARER)
    cupboard.keys[KEY.key_id] = replace(KEY, revoked=datetime.now(UTC))
    cupboard.now = FRESH_S - 0.1
    await keyring.caller_of(BEARER)
    cupboard.now = FRESH_S
    with pytest.raises(Unauthenticated, match="unknown or revoked"):
        await keyring.caller_of(BEARER)


async def test_an_unknown_key_is_remembered_as_unknown(keyring: Keyring, cupboard: Cupboard) -> None:
    cupboard.keys.clear()
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await keyring.caller_of(BEARER)
    assert cupboard.looks == 1


async def test_what_cannot_be_a_key_is_never_looked_up(keyring: Keyring, cupboard: Cupboard) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await keyring.caller_of("Bearer '; DROP TABLE keys")
    assert caught.value.reason is Reason.INVALID_KEY
    with pytest.raises(Unauthenticated) as caught:
        await keyring.caller_of(None)
    assert caught.value.reason is Reason.MISSING_KEY
    assert cupboard.looks == 0


async def test_keys_that_cannot_be_read_are_no_wrong_keys(keyring: Keyring, cupboard: Cupboard) -> None:
    cupboard.is_locked = True
    with pytest.raises(Unavailable):
        await keyring.caller_of(BEARER)
    cupboard.is_locked = False
    assert (await keyring.caller_of(BEARER)).tenant == "demo"


async def test_made_up_keys_do_not_fill_the_memory(keyring: Keyring) -> None:
    for number in range(1, module.MOST_ENTRIES + 10):
        with pytest.raises(Unauthenticated):
            await keyring.caller_of(f"Bearer sk_{number:012x}_{'0' * 64}")
    assert len(keyring._entries) <= module.MOST_ENTRIES


def test_haste_is_refused_and_told(keyring: Keyring, cupboard: Cupboard) -> None:
    caller = Caller(KEY, TEXT)
    seen = [keyring.take(caller) for _ in range(3)]
    assert [each.remaining for each in seen] == [1, 0, -1]
    assert {each.limit for each in seen} == {2}
    refuse_haste(seen[1])
    with pytest.raises(Exhausted):
        refuse_haste(seen[2])
    cupboard.now = 1.0
    assert keyring.take(caller).remaining == 1


def test_a_key_has_its_own_pace_and_each_replica_gives_a_share_of_it(keyring: Keyring, cupboard: Cupboard) -> None:
    caller = Caller(replace(KEY, pace=Pace(requests_per_s=8)), TEXT)
    keyring.replicas = 2
    assert [keyring.take(caller).remaining for _ in range(5)] == [3, 2, 1, 0, -1]
    keyring.replicas = 1
    cupboard.now = 1.0
    assert keyring.take(caller).limit == 8


def test_a_pace_below_one_a_second_lets_one_through_now_and_then(keyring: Keyring, cupboard: Cupboard) -> None:
    caller = Caller(replace(KEY, pace=Pace(requests_per_s=0.25)), TEXT)
    seen = [keyring.take(caller) for _ in range(2)]
    assert [each.remaining for each in seen] == [0, -1]
    assert seen[1].reset_s == 4
    cupboard.now = 4.0
    assert keyring.take(caller).remaining == 0


def test_events_are_paid_off_before_the_next_are_taken(keyring: Keyring, cupboard: Cupboard) -> None:
    caller = Caller(replace(KEY, pace=Pace(requests_per_s=1_000, events_per_s=10)), TEXT)
    assert keyring.take(caller).remaining >= 0
    keyring.spend(caller, 39)
    refused = keyring.take(caller)
    assert (refused.remaining, refused.limit, refused.reset_s) == (-1, 10, 3)
    with pytest.raises(Exhausted) as told:
        refuse_haste(refused)
    assert told.value.retry_after_s == 3
    cupboard.now = 2.9
    assert keyring.take(caller).remaining == -1
    cupboard.now = 3.1
    assert keyring.take(caller).remaining >= 0


async def test_a_key_is_marked_as_used_once_and_a_failure_disturbs_nobody(cupboard: Cupboard) -> None:
    marked: list[str] = []

    async def mark(key_id: str) -> None:
        marked.append(key_id)
        if len(marked) == 1:
            raise Unavailable("the database does not answer")

    keyring = Keyring(cupboard.find, rate_per_s=2, mark_used=mark)
    for _ in range(4):
        assert await keyring.caller_of(BEARER)
        await asyncio.sleep(0)
    assert marked == [KEY.key_id] * 2  # once more after it failed
