"""Suggestions of who is the same person: found among sealed traits, decided by people, and no value leaves memory."""

import asyncio
import os
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rapport.profiles.v1 import matching_pb2 as pb
from rapport.profiles.v1.matching_pb2_grpc import MatchingStub, add_MatchingServicer_to_server

from chassis import context
from chassis.errors import Conflict, Error, InvalidArgument, NotFound
from services.profiles.main import matching
from services.profiles.match import work
from services.profiles.matching import MatchJobs
from services.profiles.settings import Settings
from tests.integration.profiles.conftest import RECEIVED, Profiles


def split(text: str) -> list[str]:
    """At its commas."""
    return text.split(",")


GIVEN = split("Ada,Bela,Cleo,Dora,Emil,Finn,Gwen,Hugo,Ines,Jack,Kira,Leon,Mona,Nils,Olga,Pavel,Quin,Rosa,Seth,Tess")
FAMILY = split("Abend,Brook,Clark,Drost,Eriks,Fuchs,Gomez,Hayes,Ivens,Jones,Klein,Lopez,Moser,Novak,Ortiz,Prinz,Quast,Reyes")
STREETS = ["Mill Lane", "High Street", "Oak Avenue", "Station Road", "Church Row", "Park View", "River Walk", "Elm Close"]
TOWNS = ["Leeds", "York", "Hull", "Derby", "Bath", "Truro", "Ely", "Wells"]


@dataclass(frozen=True, slots=True)
class Desk:
    """The RPC, and the batch job beside it."""

    stub: Any
    settings: Settings
    profiles: Profiles
    jobs: MatchJobs

    async def run(self, **asked: Any) -> pb.MatchRun:
        """A run, worked off."""
        run = (await self.stub.CreateMatchRun(pb.CreateMatchRunRequest(**asked))).run
        assert run.state == pb.MATCH_RUN_STATE_QUEUED
        await work(self.settings, uuid.uuid4().hex)
        return (await self.stub.GetMatchRun(pb.GetMatchRunRequest(match_run_id=run.match_run_id))).run

    async def suggestions(self, state: str = "OPEN", **asked: Any) -> list[pb.MatchSuggestion]:
        request = pb.ListMatchSuggestionsRequest(state=pb.SuggestionState.Value(f"SUGGESTION_STATE_{state}"), **asked)
        return list((await self.stub.ListMatchSuggestions(request)).suggestions)

    async def accept(self, suggestion: pb.MatchSuggestion) -> pb.MatchSuggestion:
        request = pb.AcceptMatchSuggestionRequest(match_suggestion_id=suggestion.match_suggestion_id, reason="same passport")
        return (await self.stub.AcceptMatchSuggestion(request)).suggestion

    async def reject(self, suggestion: pb.MatchSuggestion) -> pb.MatchSuggestion:
        request = pb.RejectMatchSuggestionRequest(match_suggestion_id=suggestion.match_suggestion_id, reason="same_household")
        return (await self.stub.RejectMatchSuggestion(request)).suggestion


@pytest_asyncio.fixture
async def desk(profiles: Profiles, serve: Any, stub: Any, platform_database: Any) -> Desk:
    settings = Settings(
        database_url=platform_database.dsn("rapport_profiles"),
        master_key_file=str(profiles.folder / "master.key"),
        archive_folder=str(profiles.folder / "archive"),
    )
    jobs, servicer = matching(settings, profiles.database, profiles.parts)
    address = await serve("profiles", add_MatchingServicer_to_server, servicer, pb.DESCRIPTOR)
    return Desk(stub(MatchingStub, address, pb.DESCRIPTOR), settings, profiles, jobs)


def _people(count: int) -> list[dict[str, Any]]:
    chance = random.Random(7)
    people: list[dict[str, Any]] = []
    for number in range(count):
        traits = {
            "firstName": chance.choice(GIVEN),
            "lastName": chance.choice(FAMILY) + chance.choice(["", "s", "er", "mann", "ova"]),
            "birthday": f"{chance.randrange(1940, 2005)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
            "phone": f"+44 113 {chance.randrange(10**6, 10**7)}",
            "email": f"{uuid.UUID(int=chance.getrandbits(128)).hex[:10]}@example.org",
            "address": {
                "street": f"{chance.randrange(1, 200)} {chance.choice(STREETS)}",
                "city": chance.choice(TOWNS),
                "postalCode": f"LS{chance.randrange(1, 30)} {chance.randrange(1, 9)}AB",
            },
        }
        people.append({"type": "identify", "messageId": f"m{number}", "userId": f"u{number}", "traits": traits})
    return people


def _again(call: dict[str, Any], name: str, **changed: Any) -> dict[str, Any]:
    """The same person under another user id."""
    return call | {"messageId": f"again-{name}", "userId": name, "traits": call["traits"] | changed}


async def _take(profiles: Profiles, calls: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(calls), 200):
        await profiles.take(*calls[start : start + 200])


def _with_doubles(count: int = 150, doubles: int = 20) -> list[dict[str, Any]]:
    people = _people(count)
    return people + [_again(people[number], f"d{number}", email=None) for number in range(doubles)]


async def _ids(profiles: Profiles, *names: str) -> set[str]:
    return set(await profiles.resolve(*(f"user_id:{name}" for name in names)))


async def test_the_same_people_are_suggested_with_what_agrees_and_no_value(desk: Desk) -> None:
    await _take(desk.profiles, _with_doubles())
    run = await desk.run()
    assert run.state == pb.MATCH_RUN_STATE_SUCCEEDED, run.message
    assert (run.people_count, run.accepted_count) == (170, 0)
    found = await desk.suggestions()
    expected = [await _ids(desk.profiles, f"u{number}", f"d{number}") for number in range(20)]
    assert [{each.profile_a, each.profile_b} in expected for each in found] == [True] * len(found)
    assert len(found) == run.suggested_count == 20
    weights = [each.weight for each in found]
    assert weights == sorted(weights, reverse=True)
    said = {each.comparison: each for each in found[0].agreements}
    assert (said["surname"].level, said["email"].level) == ("same", "unknown")
    assert said["surname"].weight > 0 == said["email"].weight
    rows = await desk.profiles.rows(
        "SELECT suggestion::text FROM profiles.match_suggestions AS suggestion WHERE tenant_id = $1", context.tenant()
    )
    everything = " ".join(row[0] for row in rows).lower()
    for call in _people(20):
        for value in (call["traits"]["lastName"], call["traits"]["birthday"], call["traits"]["address"]["postalCode"]):
            assert value.lower() not in everything


async def test_an_accepted_suggestion_makes_two_profiles_one_and_is_not_made_again(desk: Desk) -> None:
    await _take(desk.profiles, _with_doubles())
    await desk.run()
    chosen = (await desk.suggestions())[0]
    accepted = await desk.accept(chosen)
    assert (accepted.state, accepted.reason) == (pb.SUGGESTION_STATE_ACCEPTED, "")
    assert (await desk.accept(chosen)).decided == accepted.decided
    await desk.profiles.settled()
    refs = [chosen.profile_a, chosen.profile_b]
    assert len(set(await desk.profiles.resolve(*refs))) == 1
    with pytest.raises(Conflict):
        await desk.reject(chosen)
    run = await desk.run()
    assert (run.people_count, run.suggested_count) == (169, 19)


async def test_a_rejected_suggestion_stays_rejected_until_it_weighs_ten_bits_more(desk: Desk) -> None:
    people = _people(150)
    doubles = [_again(people[number], f"d{number}", email=None, phone=None) for number in range(20)]
    await _take(desk.profiles, people + doubles)
    await desk.run()
    wanted = await _ids(desk.profiles, "u3", "d3")
    chosen = next(each for each in await desk.suggestions() if {each.profile_a, each.profile_b} == wanted)
    rejected = await desk.reject(chosen)
    assert (rejected.state, rejected.reason) == (pb.SUGGESTION_STATE_REJECTED, "same_household")
    assert (await desk.run()).suggested_count == 19
    assert [each.match_suggestion_id for each in await desk.suggestions("REJECTED")] == [chosen.match_suggestion_id]
    later = RECEIVED + timedelta(hours=1)
    said = {"email": people[3]["traits"]["email"], "phone": people[3]["traits"]["phone"]}
    await desk.profiles.take({"type": "identify", "messageId": "more", "userId": "d3", "traits": said}, received=later)
    assert (await desk.run()).suggested_count == 20
    again = next(each for each in await desk.suggestions() if {each.profile_a, each.profile_b} == wanted)
    assert (again.match_suggestion_id, again.reason) == (chosen.match_suggestion_id, "")
    assert again.weight >= chosen.weight + 10


async def test_a_run_accepts_from_the_probability_that_it_was_given(desk: Desk) -> None:
    await _take(desk.profiles, _with_doubles())
    run = await desk.run(accept_from=0.99)
    assert run.accepted_count == 20
    assert await desk.suggestions() == []
    decided = await desk.suggestions("ACCEPTED")
    assert {each.decided_by for each in decided} == {"match-run"}
    await desk.profiles.settled()
    assert len(await _ids(desk.profiles, "u5", "d5")) == 1


async def test_too_few_people_are_not_enough_data(desk: Desk) -> None:
    await _take(desk.profiles, _people(30))
    run = await desk.run()
    assert run.state == pb.MATCH_RUN_STATE_NOT_ENOUGH_DATA
    assert run.message.startswith("not enough data: there are 30 records")
    assert await desk.suggestions() == []


async def test_pages_hold_every_suggestion_once_and_a_least_weight_cuts_them(desk: Desk) -> None:
    await _take(desk.profiles, _with_doubles())
    await desk.run()
    whole = await desk.suggestions()
    seen: list[str] = []
    token = ""
    while True:
        answer = await desk.stub.ListMatchSuggestions(pb.ListMatchSuggestionsRequest(page_size=7, page_token=token))
        seen += [each.match_suggestion_id for each in answer.suggestions]
        if not (token := answer.next_page_token):
            break
    assert seen == [each.match_suggestion_id for each in whole]
    least = whole[4].weight
    assert [each.weight >= least for each in await desk.suggestions(min_weight=least)] == [True] * len(
        [each for each in whole if each.weight >= least]
    )


@pytest.mark.parametrize(
    ("call", "request_", "kind", "field"),
    [
        ("CreateMatchRun", pb.CreateMatchRunRequest(accept_from=0.5), InvalidArgument, "accept_from"),
        ("GetMatchRun", pb.GetMatchRunRequest(match_run_id=str(uuid.uuid4())), NotFound, "match_run_id"),
        (
            "ListMatchSuggestions",
            pb.ListMatchSuggestionsRequest(page_token="x"),
            InvalidArgument,
            "page_token",
        ),
        (
            "AcceptMatchSuggestion",
            pb.AcceptMatchSuggestionRequest(match_suggestion_id="no"),
            NotFound,
            "match_suggestion_id",
        ),
    ],
)
async def test_what_is_wrong_is_said(desk: Desk, call: str, request_: Any, kind: type[Error], field: str) -> None:
    with pytest.raises(kind) as refused:
        await getattr(desk.stub, call)(request_)
    assert refused.value.field == field


async def test_the_service_starts_the_process_itself(desk: Desk) -> None:
    await _take(desk.profiles, _with_doubles())
    run = (await desk.stub.CreateMatchRun(pb.CreateMatchRunRequest())).run
    working = asyncio.create_task(desk.jobs.work())
    try:
        async with asyncio.timeout(120):
            while run.state in (pb.MATCH_RUN_STATE_QUEUED, pb.MATCH_RUN_STATE_RUNNING):
                await asyncio.sleep(0.2)
                run = (await desk.stub.GetMatchRun(pb.GetMatchRunRequest(match_run_id=run.match_run_id))).run
    finally:
        working.cancel()
    assert (run.state, run.suggested_count) == (pb.MATCH_RUN_STATE_SUCCEEDED, 20)


async def test_no_file_is_written_with_what_people_are_called(desk: Desk, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    desk_settings = desk.settings.model_copy(update={"master_key_file": str(desk.profiles.folder / "master.key")})
    await _take(desk.profiles, _with_doubles())
    await desk.stub.CreateMatchRun(pb.CreateMatchRunRequest())
    await work(desk_settings, uuid.uuid4().hex)
    assert os.listdir(tmp_path) == []
