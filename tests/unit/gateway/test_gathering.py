"""What arrives together travels together, and each hears only of its own."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from rapport.profiles.v1 import identities_pb2 as identities
from rapport.profiles.v1 import profiles_pb2 as profiles
from rapport.scoring.v1 import scoring_pb2 as scoring

from chassis import context
from chassis.errors import Error, InvalidArgument, NotFound, Reason, Unavailable
from services.gateway.capacity import Capacity
from services.gateway.gathering import FEW, SINGLES_AT_ONCE, Question, Reads, Scores, Submissions, refusal

AT = datetime(2011, 9, 10, tzinfo=UTC)


class Behind:
    """profiles and scoring in one: remembers what it was asked, by whom and for whom."""

    def __init__(self) -> None:
        self.profiles = self.scoring = self.identities = self
        self.asked: list[tuple[str, str, int]] = []
        self.score_requests: list[scoring.ScoreProfilesRequest] = []
        self.is_down = False
        self.is_older = False
        self.answers_left = 1_000

    def _note(self, size: int) -> None:
        self.asked.append((context.tenant(), context.current().request_id, size))
        self.answers_left -= 1
        if self.is_down or self.answers_left < 0:
            raise Unavailable("profiles does not answer")

    async def Ingest(self, request: profiles.IngestRequest) -> profiles.IngestResponse:
        self._note(len(request.submissions))
        await asyncio.sleep(0)
        return profiles.IngestResponse(submissions=[_answer(each.body) for each in request.submissions])

    async def GetProfile(self, request: profiles.GetProfileRequest) -> profiles.GetProfileResponse:
        self._note(1)
        if not (found := _known(request.ref)).profile_id:
            raise NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE)
        return profiles.GetProfileResponse(profile=found)

    async def BatchGetProfiles(self, request: profiles.BatchGetProfilesRequest) -> profiles.BatchGetProfilesResponse:
        self._note(len(request.refs))
        if self.is_older:
            raise Error("internal error")
        return profiles.BatchGetProfilesResponse(profiles=[_known(ref) for ref in request.refs])

    async def LookupProfiles(self, request: identities.LookupProfilesRequest) -> identities.LookupProfilesResponse:
        self._note(len(request.identifiers))
        if any(each.value == "bad" for each in request.identifiers):
            raise InvalidArgument("that is no telephone number", field="identifiers[0].value")
        return identities.LookupProfilesResponse(profile_ids=[each.value.upper() for each in request.identifiers])

    async def ScoreProfiles(self, request: scoring.ScoreProfilesRequest) -> scoring.ScoreProfilesResponse:
        self._note(len(request.refs))
        self.score_requests.append(request)
        if request.version == "missing":
            raise NotFound("there is no such version", reason=Reason.UNKNOWN_MODEL_VERSION)
        results = [scoring.ScoreResult(ref=ref, score=scoring.Score(version=request.version or "7")) for ref in request.refs]
        return scoring.ScoreProfilesResponse(results=results)


def _known(ref: str) -> profiles.Profile:
    return profiles.Profile(profile_id="" if ref == "nobody" else ref)


def _answer(body: bytes) -> profiles.SubmissionResult:
    if body == b"{":
        return profiles.SubmissionResult(malformed=profiles.Malformed(reason="MALFORMED_JSON", field="body"))
    receipt = profiles.Receipt(message_id=body.decode(), status=profiles.RECEIPT_STATUS_ACCEPTED)
    return profiles.SubmissionResult(receipts=profiles.Receipts(receipts=[receipt]))


@pytest.fixture
def behind() -> Behind:
    return Behind()


async def submit(submissions: Submissions, body: bytes, *, tenant: str = "demo", request_id: str = "") -> Any:
    with context.use(tenant=tenant, request_id=request_id or body.hex()):
        return await submissions.submit(profiles.Submission(type="track", body=body))


async def test_each_body_gets_its_own_receipts(behind: Behind) -> None:
    submissions = Submissions(behind, Capacity())  # pyright: ignore[reportArgumentType]
    bodies = [b"m%d" % number for number in range(100)]
    answers = await asyncio.gather(*(submit(submissions, body) for body in bodies))
    assert [receipts[0].message_id for receipts in answers] == [body.decode() for body in bodies]
    assert sum(size for _, _, size in behind.asked) == 100
    assert len(behind.asked) < 10


async def test_a_body_that_cannot_be_read_fails_alone(behind: Behind) -> None:
    submissions = Submissions(behind, Capacity())  # pyright: ignore[reportArgumentType]
    good, bad = await asyncio.gather(submit(submissions, b"m1"), submit(submissions, b"{"), return_exceptions=True)
    assert not isinstance(good, BaseException)
    assert good[0].message_id == "m1"
    assert isinstance(bad, InvalidArgument)
    assert (bad.reason, bad.field, bad.message) == (Reason.MALFORMED_JSON, "body", Reason.MALFORMED_JSON.value)


async def test_tenants_travel_apart_and_a_lone_request_keeps_its_id(behind: Behind) -> None:
    submissions = Submissions(behind, Capacity())  # pyright: ignore[reportArgumentType]
    await asyncio.gather(*(submit(submissions, b"m", tenant=tenant, request_id=tenant * 2) for tenant in ("a", "b")))
    assert sorted(behind.asked) == [("a", "aa", 1), ("b", "bb", 1)]


async def test_a_call_for_many_has_an_id_of_its_own(behind: Behind) -> None:
    submissions = Submissions(behind, Capacity())  # pyright: ignore[reportArgumentType]
    await asyncio.gather(*(submit(submissions, b"m%d" % number, request_id=f"r{number}") for number in range(5)))
    ids = {request_id for _, request_id, size in behind.asked if size > 1}
    assert ids
    assert not ids & {f"r{number}" for number in range(5)}


async def test_all_hear_of_a_service_that_is_down_and_the_next_ask_anew(behind: Behind) -> None:
    submissions = Submissions(behind, Capacity())  # pyright: ignore[reportArgumentType]
    behind.is_down = True
    answers = await asyncio.gather(*(submit(submissions, b"m%d" % number) for number in range(5)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    behind.is_down = False
    assert await submit(submissions, b"m")


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("NEGATIVE_PRICE", "a price is negative", (Reason.NEGATIVE_PRICE, "a price is negative")),
        ("SOMETHING_NEWER", "", (Reason.INVALID_FIELD, Reason.INVALID_FIELD.value)),
    ],
)
def test_a_reason_of_a_newer_service_is_still_a_refusal(reason: str, message: str, expected: tuple[Reason, str]) -> None:
    error = refusal(reason, message, "properties.price")
    assert (error.reason, error.message) == expected


async def test_one_call_goes_out_for_each_kind_of_question(behind: Behind) -> None:
    scores = Scores(behind)  # pyright: ignore[reportArgumentType]
    usual = [Question(f"user_id:{number % 3}", "churn", None, "") for number in range(9)]
    dated = [Question("user_id:1", "churn", AT, "8")] * 2
    missing = [Question("user_id:1", "churn", None, "missing")] * 2
    with context.use(tenant="demo"):
        answers = await asyncio.gather(*(scores.ask(each) for each in [*usual, *dated, *missing]), return_exceptions=True)
    scored = [answer for answer in answers if isinstance(answer, scoring.ScoreResult)]
    assert [answer.ref for answer in scored] == [each.ref for each in [*usual, *dated]]
    assert [answer.score.version for answer in scored] == ["7"] * 9 + ["8"] * 2
    assert all(isinstance(answer, NotFound) for answer in answers[-2:])
    asked = [(list(request.refs), request.HasField("at")) for request in behind.score_requests]
    assert (["user_id:0", "user_id:1", "user_id:2"], False) in asked  # nobody is asked for twice in one call
    assert (["user_id:1"], True) in asked


async def read(reads: Reads, *refs: str) -> list[profiles.Profile | BaseException]:
    with context.use(tenant="demo"):
        return await asyncio.gather(*map(reads.profile, refs), return_exceptions=True)


async def test_profiles_are_read_together_and_who_is_unknown_fails_alone(behind: Behind) -> None:
    found = await read(Reads(behind), "ann", "nobody", "bob")  # pyright: ignore[reportArgumentType]
    assert [each.profile_id for each in found if isinstance(each, profiles.Profile)] == ["ann", "bob"]
    assert isinstance(found[1], NotFound)
    assert found[1].reason is Reason.UNKNOWN_PROFILE
    assert [size for _, _, size in behind.asked] == [3]


async def test_a_service_that_does_not_know_the_call_for_many_is_asked_singly(behind: Behind) -> None:
    behind.is_older = True
    found = await read(Reads(behind), "ann", "nobody", "bob")  # pyright: ignore[reportArgumentType]
    assert [each.profile_id for each in found if isinstance(each, profiles.Profile)] == ["ann", "bob"]
    assert isinstance(found[1], NotFound)
    assert [size for _, _, size in behind.asked] == [3, 1, 1, 1]


async def test_a_service_that_is_down_is_not_asked_again_for_each(behind: Behind) -> None:
    behind.is_down = True
    found = await read(Reads(behind), "ann", "bob")  # pyright: ignore[reportArgumentType]
    assert all(isinstance(each, Unavailable) for each in found)
    assert [size for _, _, size in behind.asked] == [2]


async def test_a_service_that_goes_down_on_the_way_is_asked_no_more(behind: Behind) -> None:
    behind.is_older, behind.answers_left = True, 11
    found = await read(Reads(behind), *map(str, range(100)))  # pyright: ignore[reportArgumentType]
    assert sum(isinstance(each, profiles.Profile) for each in found) == 10
    assert sum(isinstance(each, Unavailable) for each in found) == 90
    assert len(behind.asked) <= 1 + 10 + SINGLES_AT_ONCE


async def test_a_lookup_of_many_goes_alone(behind: Behind) -> None:
    reads = Reads(behind)  # pyright: ignore[reportArgumentType]
    with context.use(tenant="demo"):
        few, many = await asyncio.gather(*(reads.lookup(_identifiers(["a"] * count)) for count in (1, FEW + 1)))
    assert (list(few), list(many)) == (["A"], ["A"] * (FEW + 1))
    assert sorted(size for _, _, size in behind.asked) == [1, FEW + 1]


async def test_each_lookup_gets_its_own_people_and_a_bad_one_fails_alone(behind: Behind) -> None:
    reads = Reads(behind)  # pyright: ignore[reportArgumentType]
    asked = [["a", "b"], ["bad"], ["c"]]
    with context.use(tenant="demo"):
        found = await asyncio.gather(*map(reads.lookup, map(_identifiers, asked)), return_exceptions=True)
    assert [found[0], found[2]] == [["A", "B"], ["C"]]
    assert isinstance(found[1], InvalidArgument)
    assert [size for _, _, size in behind.asked] == [4, 2, 1, 1]


def _identifiers(values: list[str]) -> list[identities.Identifier]:
    return [identities.Identifier(namespace="email", value=value) for value in values]
