"""Results overall and by segment, cases, and what merges make of them."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from rapport.feedback.v1 import feedback_pb2 as pb

from chassis.errors import InvalidArgument, NotFound, Reason
from services.feedback.domain import Answer
from services.feedback.store import Overtaken
from tests.integration.feedback.conftest import Platform
from tests.integration.feedback.people import NOW

DAY = timedelta(days=1)


async def test_results_have_an_interval_overall_and_by_segment(platform: Platform) -> None:
    await platform.survey()
    people = [platform.people.add(platform.tenant) for _ in range(12)]
    for number, person in enumerate(people):
        await platform.answer(person, 10 if number < 6 else 3)
        await platform.entered(person, "loyal" if number < 6 else "at_risk")
    await platform.entered(people[0], "lonely")
    await platform.entered(platform.people.add(platform.tenant), "silent")
    await platform.project()
    results = await platform.results()
    assert (results.kind, results.overall.value, results.overall.answer_count) == (pb.SURVEY_KIND_NPS, 0, 12)
    assert list(results.overall.rating_counts) == [0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 6]
    assert -60 < results.overall.low < 0 < results.overall.high < 60
    by_segment = {each.segment_key: each.result for each in results.segments}
    assert list(by_segment) == ["at_risk", "lonely", "loyal"]
    assert (by_segment["loyal"].value, by_segment["at_risk"].value) == (100, -100)
    assert by_segment["loyal"].low < 60
    assert by_segment["lonely"].missing == "not enough data: 1 answer, at least 2 are needed"
    assert not by_segment["lonely"].HasField("value")


async def test_a_survey_without_answers_says_so(platform: Platform) -> None:
    await platform.survey("csat", pb.SURVEY_KIND_CSAT)
    results = await platform.results("csat")
    assert results.overall.missing == "not enough data: 0 answers, at least 2 are needed"
    assert list(results.overall.rating_counts) == [0, 0, 0, 0, 0]


async def test_other_scales_have_their_own_scores(platform: Platform) -> None:
    await platform.survey("csat", pb.SURVEY_KIND_CSAT)
    await platform.survey("ces", pb.SURVEY_KIND_CES)
    for rating in (1, 4, 5, 5):
        person = platform.people.add(platform.tenant)
        await platform.answer(person, rating, survey_id="csat")
        await platform.answer(person, rating, survey_id="ces")
    assert (await platform.results("csat")).overall.value == 75
    ces = (await platform.results("ces")).overall
    assert (ces.value, ces.low) == (3.75, pytest.approx(1, abs=0.8))


async def test_who_left_a_segment_no_longer_counts_there(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    await platform.answer(ann, 9)
    for said in (platform.entered, platform.exited, platform.entered, platform.exited):
        await said(ann, "loyal")
    await platform.entered(ann, "active")
    await platform.event("Segment Entered", ann, source="shop", segment="forged")
    await platform.project()
    assert [each.segment_key for each in (await platform.results()).segments] == ["active"]


async def test_a_low_score_opens_a_case_that_is_due_and_can_be_closed(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    taken = await platform.answer(ann, 4)
    (case,) = await platform.cases(open_only=True)
    assert (case.case_id, case.profile_id, case.survey_id, case.rating) == (taken.case_id, ann, "nps", 4)
    assert (case.due.ToDatetime(NOW.tzinfo), case.overdue, case.HasField("closed")) == (NOW + DAY, False, False)
    platform.people.now = NOW + 2 * DAY
    assert (await platform.cases())[0].overdue is True
    closed = (await platform.stub.CloseCase(pb.CloseCaseRequest(case_id=taken.case_id))).case
    assert (closed.closed.ToDatetime(NOW.tzinfo), closed.overdue) == (NOW + 2 * DAY, False)
    platform.people.now = NOW + 3 * DAY
    again = (await platform.stub.CloseCase(pb.CloseCaseRequest(case_id=taken.case_id))).case
    assert again.closed == closed.closed
    listed = await platform.stub.ListCases(pb.ListCasesRequest(open_only=True))
    assert (list(listed.cases), listed.open_count) == ([], 0)
    assert len(await platform.cases()) == 1
    due = "2026-03-02T12:00:00.000Z"
    assert ("Case Opened", {"caseId": taken.case_id, "surveyId": "nps", "due": due}) in await platform.told()


async def test_a_change_of_mind_closes_the_case_and_a_new_complaint_opens_another(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    first = await platform.answer(ann, 4)
    lower = await platform.answer(ann, 1, at=NOW + timedelta(hours=1))
    assert lower.case_id == first.case_id
    (case,) = await platform.cases(open_only=True)
    assert (case.rating, case.due.ToDatetime(NOW.tzinfo)) == (1, NOW + DAY)
    happy = await platform.answer(ann, 9, at=NOW + timedelta(hours=2))
    assert (happy.case_id, await platform.cases(open_only=True)) == ("", [])
    again = await platform.answer(ann, 2, at=NOW + timedelta(hours=3))
    assert again.case_id not in ("", first.case_id)
    assert [name for name, _ in await platform.told()].count("Case Opened") == 2


async def test_cases_come_in_pages_the_most_urgent_first(platform: Platform) -> None:
    await platform.survey()
    for number in range(5):
        await platform.answer(platform.people.add(platform.tenant), 0, at=NOW - number * DAY)
    first = await platform.stub.ListCases(pb.ListCasesRequest(open_only=True, page_size=3))
    rest = await platform.stub.ListCases(pb.ListCasesRequest(open_only=True, page_size=3, page_token=first.next_page_token))
    due = [case.due.ToDatetime() for case in [*first.cases, *rest.cases]]
    assert (due, len(due), rest.next_page_token, first.open_count) == (sorted(due), 5, "", 5)


@pytest.mark.parametrize("case_id", ["", "nonsense", "00000000-0000-0000-0000-00000000000g"])
async def test_a_case_is_named_by_its_id(platform: Platform, case_id: str) -> None:
    with pytest.raises(InvalidArgument):
        await platform.stub.CloseCase(pb.CloseCaseRequest(case_id=case_id))
    with pytest.raises(NotFound) as refused:
        await platform.stub.CloseCase(pb.CloseCaseRequest(case_id=str(uuid.uuid4())))
    assert refused.value.reason is Reason.NOT_FOUND


async def test_of_two_profiles_that_are_one_the_newest_answer_stays(platform: Platform) -> None:
    await platform.survey()
    ann, device = platform.people.add(platform.tenant), platform.people.add(platform.tenant)
    await platform.answer(ann, 9, "As Ann.", at=NOW)
    await platform.answer(device, 2, "On the phone.", at=NOW + timedelta(hours=1))
    await platform.entered(device, "new")
    await platform.entered(ann, "active")
    await platform.merged(device, ann)
    await platform.project()
    assert [(each.profile_id, each.rating, each.comment) for each in await platform.listed()] == [(ann, 2, "On the phone.")]
    assert [(case.profile_id, case.rating) for case in await platform.cases(open_only=True)] == [(ann, 2)]
    assert [each.segment_key for each in (await platform.results()).segments] == ["active", "new"]
    assert (await platform.answer(device, 10, at=NOW + DAY)).replaced is True
    assert [(each.profile_id, each.rating) for each in await platform.listed()] == [(ann, 10)]
    assert await platform.cases(open_only=True) == []


async def test_an_older_answer_of_the_profile_that_is_gone_is_dropped_and_its_case_closed(platform: Platform) -> None:
    await platform.survey()
    ann, device = platform.people.add(platform.tenant), platform.people.add(platform.tenant)
    await platform.answer(device, 2, at=NOW - DAY)
    await platform.answer(ann, 9, "As Ann.")
    await platform.merged(device, ann)
    await platform.project()
    assert [(each.profile_id, each.rating, each.comment) for each in await platform.listed()] == [(ann, 9, "As Ann.")]
    (case,) = await platform.cases()
    assert (case.profile_id, case.closed.ToDatetime(NOW.tzinfo)) == (ann, NOW)


async def test_profiles_that_part_have_their_own_answers_again(platform: Platform) -> None:
    await platform.survey()
    await platform.survey("csat", pb.SURVEY_KIND_CSAT)
    ann, device = platform.people.add(platform.tenant), platform.people.add(platform.tenant)
    await platform.answer(ann, 9, at=NOW)
    await platform.answer(device, 1, survey_id="csat", at=NOW)
    await platform.merged(device, ann)
    await platform.project()
    assert [each.profile_id for each in await platform.listed("csat")] == [ann]
    del platform.people.became[platform.tenant][device]
    said = {"from_": ann, "into": device, "nodes": [device], "traits": []}
    await platform.event("Profile Unmerged", device, source="rapport.profiles", **said)
    await platform.project()
    assert [each.profile_id for each in await platform.listed("csat")] == [device]
    assert [each.profile_id for each in await platform.listed()] == [ann]
    assert {case.profile_id for case in await platform.cases()} == {device}
    await platform.answer(device, 2, at=NOW + DAY)
    assert {each.profile_id: each.rating for each in await platform.listed()} == {ann: 9, device: 2}


async def test_two_complaints_that_are_one_customers_are_one_case(platform: Platform) -> None:
    await platform.survey()
    ann, device, phone = (platform.people.add(platform.tenant) for _ in range(3))
    oldest = (await platform.answer(device, 2, at=NOW - DAY)).case_id
    await platform.answer(ann, 3)
    await platform.answer(phone, 1, at=NOW + timedelta(hours=1))
    await platform.merged(phone, device)
    await platform.merged(device, ann)
    await platform.project()
    (case,) = await platform.cases(open_only=True)
    assert (case.case_id, case.profile_id, case.rating) == (oldest, ann, 1)
    assert len(await platform.cases()) == 3


async def test_what_is_said_late_of_a_profile_that_is_gone_counts_for_the_other(platform: Platform) -> None:
    await platform.survey()
    ann, device, phone = (platform.people.add(platform.tenant) for _ in range(3))
    await platform.answer(ann, 9)
    await platform.merged(phone, device)
    await platform.merged(device, ann)
    await platform.entered(phone, "loyal")
    await platform.entered(device, "new")
    await platform.exited(ann, "new")
    await platform.project()
    assert [each.segment_key for each in (await platform.results()).segments] == ["loyal"]


async def test_an_answer_that_crosses_a_merge_ends_with_the_profile_that_stays(platform: Platform) -> None:
    await platform.survey()
    ann, device = platform.people.add(platform.tenant), platform.people.add(platform.tenant)
    await platform.merged(device, ann)
    await platform.project()
    # As if the profile had been resolved just before the merge.
    answer = Answer("nps", uuid.UUID(device), 9, NOW, revision=1)
    with pytest.raises(Overtaken):
        await platform.answers.save(platform.tenant, answer, None, [])
    standing = await platform.answers.standing(platform.tenant, "nps", uuid.UUID(device))
    assert str(standing.profile_id) == ann


async def test_merges_and_answers_at_the_same_time_lose_nothing(platform: Platform) -> None:
    await platform.survey()
    pairs = [(platform.people.add(platform.tenant), platform.people.add(platform.tenant)) for _ in range(10)]

    async def answer_and_merge(device: str, ann: str) -> None:
        await asyncio.gather(
            platform.answer(device, 3, at=NOW), platform.merged(device, ann), platform.answer(ann, 9, at=NOW - DAY)
        )

    await asyncio.gather(platform.project(), *(answer_and_merge(*pair) for pair in pairs))
    await platform.project()
    listed = await platform.listed()
    assert {(each.profile_id, each.rating) for each in listed} == {(ann, 3) for _, ann in pairs}
    cases = await platform.cases(open_only=True)
    assert {case.profile_id for case in cases} == {ann for _, ann in pairs}
    assert len(cases) == 10
