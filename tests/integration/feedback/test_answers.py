"""Surveys, answers and comments over real gRPC and a real database."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from rapport.feedback.v1 import feedback_pb2 as pb

from chassis import context
from chassis.errors import Conflict, InvalidArgument, NotFound, Reason
from tests.integration.collector import Collector
from tests.integration.feedback.conftest import Platform
from tests.integration.feedback.people import NOW

DAY = timedelta(days=1)
SECRET = "Call me at 0171 5550: the parcel was wet 😀"


async def test_a_survey_is_made_once_and_found_again(platform: Platform) -> None:
    await platform.survey()
    await platform.survey()
    survey = (await platform.stub.GetSurvey(pb.GetSurveyRequest(survey_id="nps"))).survey
    assert (survey.kind, survey.question, survey.answer_count) == (pb.SURVEY_KIND_NPS, "Would you recommend us?", 0)
    assert survey.HasField("created")
    with pytest.raises(Conflict) as refused:
        await platform.survey(kind=pb.SURVEY_KIND_CES)
    assert refused.value.reason is Reason.ALREADY_EXISTS
    await platform.survey("effort-2026", pb.SURVEY_KIND_CES)
    listed = (await platform.stub.ListSurveys(pb.ListSurveysRequest())).surveys
    assert [each.survey_id for each in listed] == ["nps", "effort-2026"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateSurveyRequest(survey_id="nps", question="Why?"), "kind"),
        (pb.CreateSurveyRequest(survey_id="NPS", kind=pb.SURVEY_KIND_NPS, question="Why?"), "survey_id"),
        (pb.CreateSurveyRequest(survey_id="nps", kind=pb.SURVEY_KIND_NPS), "question"),
        (pb.CreateSurveyRequest(survey_id="nps", kind=pb.SURVEY_KIND_NPS, question="a\0b"), "question"),
    ],
)
async def test_a_survey_that_nobody_could_answer_is_refused(
    platform: Platform, request_: pb.CreateSurveyRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await platform.stub.CreateSurvey(request_)
    assert refused.value.field == field


async def test_a_customer_has_one_answer_and_a_change_replaces_it(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    first = await platform.answer(ann, 9, "Good.")
    second = await platform.answer(ann, 10, at=NOW + timedelta(hours=1))
    assert (first.replaced, second.replaced, first.answer.comment) == (False, True, "Good.")
    assert [(each.rating, each.comment) for each in await platform.listed()] == [(10, "")]
    assert (await platform.results()).overall.answer_count == 1
    assert await platform.told() == [
        ("Survey Answered", {"surveyId": "nps", "kind": "NPS", "rating": 9}),
        ("Survey Answered", {"surveyId": "nps", "kind": "NPS", "rating": 10}),
    ]


async def test_an_older_answer_does_not_replace_a_newer_one(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    await platform.answer(ann, 9, "Mine.")
    late = await platform.answer(ann, 2, at=NOW - DAY)
    assert (late.replaced, late.answer.rating, late.answer.comment, late.case_id) == (False, 9, "", "")
    assert len(await platform.told()) == 1


async def test_the_same_answer_again_changes_and_tells_nothing(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    first, again = await platform.answer(ann, 3, "Bad."), await platform.answer(ann, 3, "Bad.")
    assert (again.replaced, again.case_id, again.answer) == (False, first.case_id, first.answer)
    assert [name for name, _ in await platform.told()] == ["Survey Answered", "Case Opened"]


async def test_an_answer_without_a_time_is_given_at_the_tenants_clock(platform: Platform) -> None:
    await platform.survey()
    platform.people.now = NOW - 400 * DAY
    taken = await platform.answer(platform.people.add(platform.tenant), 8, at=None)
    assert taken.answer.answered.ToDatetime(NOW.tzinfo) == NOW - 400 * DAY


async def test_a_comment_is_kept_sealed_only_and_shown_to_who_may_read_it(platform: Platform) -> None:
    await platform.survey()
    ann, bob = platform.people.add(platform.tenant), platform.people.add(platform.tenant)
    await platform.answer(ann, 2, SECRET)
    await platform.answer(bob, 9, at=NOW - DAY)
    async with platform.database.connection() as connection:
        rows = await connection.fetch("SELECT a::text FROM feedback.answers AS a WHERE tenant_id = $1", platform.tenant)
        rows += await connection.fetch(
            "SELECT encode(fact, 'escape') FROM feedback.outbox WHERE tenant_id = $1", platform.tenant
        )
        sealed = await connection.fetchval("SELECT sealed FROM feedback.answers WHERE profile_id = $1", uuid.UUID(ann))
    assert not any("0171" in row[0] for row in rows)
    assert SECRET.encode() not in sealed
    assert [(each.profile_id, each.comment) for each in await platform.listed()] == [(ann, SECRET), (bob, "")]
    assert all("comment" not in said for _, said in await platform.told())
    assert all(b"0171" not in fact.SerializeToString() for fact in platform.people.facts[platform.tenant])


async def test_a_comment_dies_with_its_key(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    await platform.answer(ann, 2, SECRET)
    platform.people.erase(platform.tenant, ann)
    assert [(each.rating, each.comment) for each in await platform.listed()] == [(2, "")]


async def test_what_waits_for_the_log_keeps_the_span_of_its_call(collector: Collector, platform: Platform) -> None:
    await platform.survey()
    await platform.answer(platform.people.add(platform.tenant), 2)
    await platform.told()
    facts = platform.people.facts[platform.tenant]
    spans = {span.span_id: span.name for span in await collector.all()}
    assert facts
    assert {spans[fact.traceparent.split("-")[2]] for fact in facts} == {"rapport.feedback.v1.Feedback/SubmitAnswer"}


async def test_comments_are_never_logged(platform: Platform, capfd: pytest.CaptureFixture[str]) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    await platform.answer(ann, 2, SECRET)
    await platform.listed()
    with pytest.raises(InvalidArgument) as refused:
        await platform.answer(ann, 2, SECRET + "\0")
    assert refused.value.reason is Reason.MALFORMED_TEXT
    assert "0171" not in refused.value.message
    written = capfd.readouterr()
    assert "SubmitAnswer" in written.out
    assert "0171" not in written.out + written.err


async def test_many_comments_are_unsealed_a_few_at_a_time(platform: Platform) -> None:
    await platform.survey()
    people = [platform.people.add(platform.tenant) for _ in range(60)]
    for person in people:
        await platform.answer(person, 8, f"I am {person}")
    assert {(each.profile_id, each.comment) for each in await platform.listed()} == {
        (person, f"I am {person}") for person in people
    }
    assert platform.people.most_at_once <= 16


@pytest.mark.parametrize(
    ("rating", "comment", "reason"),
    [
        (11, "", Reason.RATING_OUT_OF_SCALE),
        (-1, "", Reason.RATING_OUT_OF_SCALE),
        (9, "x" * 4_001, Reason.TEXT_TOO_LONG),
        (9, "a\0b", Reason.MALFORMED_TEXT),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused(platform: Platform, rating: int, comment: str, reason: Reason) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    with pytest.raises(InvalidArgument) as refused:
        await platform.answer(ann, rating, comment)
    assert refused.value.reason is reason
    assert await platform.listed() == []


async def test_an_answer_of_11_to_an_nps_question_is_told_the_scale(platform: Platform) -> None:
    await platform.survey()
    with pytest.raises(InvalidArgument, match="the scale of NPS goes from 0 to 10"):
        await platform.answer(platform.people.add(platform.tenant), 11)


async def test_answers_of_nobody_to_nothing_are_refused(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    with pytest.raises(NotFound) as refused:
        await platform.answer(str(uuid.uuid4()), 9)
    assert refused.value.reason is Reason.UNKNOWN_PROFILE
    with pytest.raises(InvalidArgument):
        await platform.answer("user_id:ann", 9)
    for survey_id in ("", "other", "a\0b"):
        with pytest.raises(NotFound):
            await platform.answer(ann, 9, survey_id=survey_id)
    with pytest.raises(InvalidArgument) as refused_time:
        await platform.answer(ann, 9, at=NOW + 2 * DAY)
    assert refused_time.value.reason is Reason.TIMESTAMP_OUT_OF_BOUNDS
    request = pb.SubmitAnswerRequest(survey_id="nps", profile_id=ann, rating=9)
    request.answered.seconds = 10**15
    with pytest.raises(InvalidArgument) as refused_time:
        await platform.stub.SubmitAnswer(request)
    assert refused_time.value.reason is Reason.TIMESTAMP_OUT_OF_BOUNDS


async def test_answers_come_in_pages_newest_first(platform: Platform) -> None:
    await platform.survey()
    people = [platform.people.add(platform.tenant) for _ in range(7)]
    for number, person in enumerate(people):
        await platform.answer(person, number, at=NOW - (number // 2) * DAY)
    seen: list[pb.Answer] = []
    token, pages = "", 0
    while True:
        page = await platform.stub.ListAnswers(pb.ListAnswersRequest(survey_id="nps", page_size=3, page_token=token))
        seen += page.answers
        pages += 1
        if not (token := page.next_page_token):
            break
    assert pages == 3
    assert {each.profile_id for each in seen} == set(people)
    times = [each.answered.ToDatetime() for each in seen]
    assert times == sorted(times, reverse=True)
    assert [each.rating for each in await platform.listed(profile_id=people[4])] == [4]
    with pytest.raises(InvalidArgument) as refused:
        await platform.listed(page_token="nonsense")
    assert refused.value.reason is Reason.INVALID_CURSOR


async def test_answers_at_the_same_time_leave_one_answer_and_one_case(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    await asyncio.gather(*(platform.answer(ann, rating, at=NOW + timedelta(seconds=rating)) for rating in range(5)))
    assert [each.rating for each in await platform.listed()] == [4]
    assert [case.rating for case in await platform.cases(open_only=True)] == [4]


async def test_another_tenant_sees_and_changes_nothing(platform: Platform) -> None:
    await platform.survey()
    ann = platform.people.add(platform.tenant)
    case_id = (await platform.answer(ann, 2, SECRET)).case_id
    with context.use(tenant=f"t{uuid.uuid4().hex[:12]}"):
        assert (await platform.stub.ListSurveys(pb.ListSurveysRequest())).surveys == []
        assert await platform.cases() == []
        for call in (
            platform.stub.GetSurvey(pb.GetSurveyRequest(survey_id="nps")),
            platform.listed(),
            platform.results(),
            platform.stub.CloseCase(pb.CloseCaseRequest(case_id=case_id)),
            platform.answer(ann, 9),
        ):
            with pytest.raises(NotFound):
                await call
        await platform.survey()
        assert await platform.listed() == []
        with pytest.raises(NotFound) as refused:
            await platform.answer(ann, 9)
        assert refused.value.reason is Reason.UNKNOWN_PROFILE
    assert [each.rating for each in await platform.listed()] == [2]
    assert len(await platform.cases(open_only=True)) == 1
    with context.use(tenant=""), pytest.raises(InvalidArgument):
        await platform.stub.ListSurveys(pb.ListSurveysRequest())
