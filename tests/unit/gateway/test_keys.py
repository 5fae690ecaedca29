"""Keys: what they look like, whom they admit, what they may do, how often they may ask."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.errors import Conflict, Denied, InvalidArgument, Reason
from services.gateway.domain import (
    ABANDONED_AFTER,
    DEFAULT_PRIVATE_SCOPES,
    Attempt,
    Bucket,
    Key,
    Kind,
    Pace,
    Repeat,
    Scope,
    admits,
    check_overlap,
    check_tenant,
    digest_of,
    judge_repeat,
    key_id_of,
    request_digest,
    require,
    scopes_for,
    write_key_text,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = write_key_text(Kind.PRIVATE, identity=bytes(6), secret=b"\x01" * 32)
KEY = Key("sk_000000000000", "demo", Kind.PRIVATE, frozenset({Scope.READ}), digest_of(TEXT), NOW)


def test_a_keys_text_begins_with_its_kind_and_its_public_id() -> None:
    assert TEXT.startswith("sk_000000000000_0101")
    assert key_id_of(TEXT) == KEY.key_id
    assert write_key_text(Kind.WRITE, identity=b"\xff" * 6, secret=bytes(32)).startswith("wk_ffffffffffff_")


@pytest.mark.parametrize("text", ["", "sk", "sk_000000000000", TEXT + "0", TEXT[:-1], TEXT.upper(), " " + TEXT, TEXT + "\n"])
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert key_id_of(text) is None


def test_a_key_admits_its_own_text_until_it_is_revoked() -> None:
    assert admits(KEY, TEXT, at=NOW)
    assert not admits(KEY, TEXT[:-1] + "0", at=NOW)
    assert not admits(replace(KEY, revoked=NOW), TEXT, at=NOW)
    assert not admits(None, TEXT, at=NOW)


def test_a_key_that_is_replaced_is_good_until_its_time() -> None:
    old = replace(KEY, expires=NOW)
    assert admits(old, TEXT, at=NOW - timedelta(microseconds=1))
    assert not admits(old, TEXT, at=NOW)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=91)])
def test_an_overlap_that_cannot_be_is_refused(overlap: timedelta) -> None:
    with pytest.raises(InvalidArgument, match="0 to 90 days"):
        check_overlap(overlap)


@pytest.mark.parametrize("wrong", [0.0, -1.0, 1e10, float("nan")])
def test_a_pace_that_cannot_be_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidArgument, match="events_per_s"):
        Pace(events_per_s=wrong)


def test_the_text_is_kept_nowhere_in_a_key() -> None:
    assert TEXT[16:] not in repr(KEY)


def test_a_write_key_can_only_ingest() -> None:
    assert scopes_for(Kind.WRITE) == {Scope.INGEST} == scopes_for(Kind.WRITE, ["ingest"])
    with pytest.raises(InvalidArgument, match="only ingest"):
        scopes_for(Kind.WRITE, ["ingest", "read"])


def test_personal_values_are_never_among_the_usual_scopes() -> None:
    assert scopes_for(Kind.PRIVATE) == DEFAULT_PRIVATE_SCOPES
    assert Scope.PERSONAL not in DEFAULT_PRIVATE_SCOPES
    assert scopes_for(Kind.PRIVATE, ["personal", "read"]) == {Scope.PERSONAL, Scope.READ}


def test_an_unknown_scope_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="root") as caught:
        scopes_for(Kind.PRIVATE, ["read", "root"])
    assert caught.value.field == "scopes"


def test_a_missing_scope_is_named() -> None:
    require(KEY.scopes, Scope.READ)
    with pytest.raises(Denied, match="'manage'"):
        require(KEY.scopes, Scope.MANAGE)


@pytest.mark.parametrize("name", ["demo", "a", "shop-2-eu", "a" * 40])
def test_a_tenants_name_is_a_plain_word(name: str) -> None:
    assert check_tenant(name) == name


@pytest.mark.parametrize("name", ["", "A", "2shop", "a b", "a/b", "é", "a" * 41, "shop_2", "a\n"])
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_tenant(name)


def test_a_bucket_gives_a_seconds_worth_at_once_and_then_as_time_goes() -> None:
    bucket = Bucket(rate=2, tokens=2, filled=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.full_in_s == 1.0
    assert [bucket.take(0.4), bucket.take(0.5), bucket.take(0.6)] == [False, True, False]
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


DIGEST = request_digest("sk_a", "POST", "/v1/surveys?", b"{}")


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        (None, Repeat.FIRST),
        (Attempt(DIGEST, NOW, b"{}"), Repeat.ANSWERED),
        (Attempt(DIGEST, NOW - timedelta(hours=23), b"{}"), Repeat.ANSWERED),
        (Attempt(DIGEST, NOW - ABANDONED_AFTER, None), Repeat.FIRST),
    ],
)
def test_a_repeat_is_answered_and_an_abandoned_request_is_done(earlier: Attempt | None, expected: Repeat) -> None:
    assert judge_repeat(earlier, DIGEST, at=NOW) is expected


@pytest.mark.parametrize("earlier", [Attempt(b"x" * 32, NOW, b"{}"), Attempt(b"x" * 32, NOW, None), Attempt(DIGEST, NOW, None)])
def test_another_request_and_one_under_way_are_conflicts(earlier: Attempt) -> None:
    with pytest.raises(Conflict) as caught:
        judge_repeat(earlier, DIGEST, at=NOW)
    assert caught.value.reason is Reason.IDEMPOTENCY_MISMATCH


@pytest.mark.parametrize(
    "other",
    [
        ("sk_b", "POST", "/v1/surveys?", b"{}"),
        ("sk_a", "PUT", "/v1/surveys?", b"{}"),
        ("sk_a", "POST", "/v1/segments?", b"{}"),
        ("sk_a", "POST", "/v1/surveys?", b"{ }"),
    ],
)
def test_two_different_requests_have_two_digests(other: tuple[str, str, str, bytes]) -> None:
    assert request_digest(*other) != DIGEST
