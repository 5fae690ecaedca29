"""Surveys, answers and cases: what is taken, what stands, who is to be called."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidArgument, Reason
from services.feedback.domain import (
    Answer,
    Case,
    Enrolment,
    Merges,
    Survey,
    SurveyKind,
    after_answer,
    after_merge,
    check_answer,
    check_survey,
    in_order,
    last_word,
    newest,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ANN, BOB, EVE = UUID(int=1), UUID(int=2), UUID(int=3)


def survey(kind: SurveyKind) -> Survey:
    return Survey("s", kind, "How was it?", NOW)


def answer(rating: int, *, at: datetime = NOW, revision: int = 1) -> Answer:
    return Answer("s", ANN, rating, at, revision=revision)


@pytest.mark.parametrize(
    ("kind", "rating", "scale"),
    [
        (SurveyKind.NPS, 11, "the scale of NPS goes from 0 to 10"),
        (SurveyKind.NPS, -1, "the scale of NPS goes from 0 to 10"),
        (SurveyKind.CSAT, 0, "the scale of CSAT goes from 1 to 5"),
        (SurveyKind.CSAT, 6, "the scale of CSAT goes from 1 to 5"),
        (SurveyKind.CES, 8, "the scale of CES goes from 1 to 7"),
    ],
)
def test_a_rating_outside_the_scale_is_refused_and_the_scale_named(kind: SurveyKind, rating: int, scale: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_answer(survey(kind), rating, "", None, wall=NOW)
    assert (refused.value.reason, refused.value.field, refused.value.message) == (Reason.RATING_OUT_OF_SCALE, "rating", scale)


@given(st.sampled_from(SurveyKind), st.integers(-3, 15))
def test_every_rating_is_on_the_scale_or_refused(kind: SurveyKind, rating: int) -> None:
    if kind.lowest <= rating <= kind.highest:
        check_answer(survey(kind), rating, "", None, wall=NOW)
    else:
        with pytest.raises(InvalidArgument):
            check_answer(survey(kind), rating, "", None, wall=NOW)


@pytest.mark.parametrize(
    ("comment", "answered", "reason"),
    [
        ("x" * 4_001, None, Reason.TEXT_TOO_LONG),
        ("a\0b", None, Reason.MALFORMED_TEXT),
        ("a\ud83db", None, Reason.MALFORMED_TEXT),
        ("", datetime(1970, 1, 1, 23, tzinfo=UTC), Reason.TIMESTAMP_OUT_OF_BOUNDS),
        ("", NOW + DAY + timedelta(seconds=1), Reason.TIMESTAMP_OUT_OF_BOUNDS),
    ],
)
def test_what_cannot_be_kept_is_refused(comment: str, answered: datetime | None, reason: Reason) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_answer(survey(SurveyKind.NPS), 9, comment, answered, wall=NOW)
    assert refused.value.reason is reason


def test_long_comments_of_any_script_and_old_answers_are_taken() -> None:
    check_answer(survey(SurveyKind.NPS), 9, "好" * 4_000, datetime(1970, 1, 2, tzinfo=UTC), wall=NOW)
    check_answer(survey(SurveyKind.NPS), 9, "😀\n\t", NOW + DAY, wall=NOW)


@pytest.mark.parametrize(
    ("survey_id", "question", "field"),
    [
        ("", "Why?", "survey_id"),
        ("Upper", "Why?", "survey_id"),
        ("-dash", "Why?", "survey_id"),
        ("a" * 65, "Why?", "survey_id"),
        ("fine", "", "question"),
        ("fine", " \n", "question"),
        ("fine", "?" * 1_001, "question"),
        ("fine", "a\0b", "question"),
    ],
)
def test_a_survey_needs_an_id_and_a_question(survey_id: str, question: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_survey(survey_id, question)
    assert refused.value.field == field


def test_the_answer_that_was_given_later_stands() -> None:
    old, new = answer(3), answer(9, at=NOW + DAY)
    assert newest(None, old) is old
    assert newest(old, new) is new
    assert newest(new, old) is new
    same_time = answer(5)
    assert newest(old, same_time) is same_time


@pytest.mark.parametrize(
    ("kind", "rating", "is_low"),
    [
        (SurveyKind.NPS, 6, True),
        (SurveyKind.NPS, 7, False),
        (SurveyKind.CSAT, 2, True),
        (SurveyKind.CSAT, 3, False),
        (SurveyKind.CES, 2, True),
        (SurveyKind.CES, 3, False),
    ],
)
def test_a_low_score_opens_a_case_with_a_due_time(kind: SurveyKind, rating: int, is_low: bool) -> None:
    case = after_answer(kind, answer(rating), None, time_to_act=DAY)
    assert (case is not None) is is_low
    if case is not None:
        assert (case.opened, case.due, case.closed, case.rating) == (NOW, NOW + DAY, None, rating)
        assert not case.is_overdue(NOW + DAY)
        assert case.is_overdue(NOW + DAY + timedelta(seconds=1))


def opened(rating: int, *, at: datetime = NOW, revision: int = 1) -> Case:
    case = after_answer(SurveyKind.NPS, answer(rating, at=at, revision=revision), None, time_to_act=DAY)
    assert case is not None
    return case


def test_a_second_low_answer_changes_the_case_but_not_its_due_time() -> None:
    first = opened(3)
    second = after_answer(SurveyKind.NPS, answer(1, at=NOW + DAY, revision=2), first, time_to_act=DAY)
    assert second is not None
    assert (second.case_id, second.rating, second.due, second.closed) == (first.case_id, 1, first.due, None)


def test_a_good_answer_closes_the_case() -> None:
    closed = after_answer(SurveyKind.NPS, answer(10, at=NOW + DAY, revision=2), opened(3), time_to_act=DAY)
    assert closed is not None
    assert closed.closed == NOW + DAY
    assert not closed.is_overdue(NOW + 9 * DAY)


def test_each_new_complaint_is_a_case_of_its_own_and_a_repeat_is_not() -> None:
    assert opened(3, revision=1).case_id != opened(3, revision=2).case_id
    assert opened(3, revision=1).case_id == opened(3, revision=1).case_id


def test_of_two_customers_who_are_one_the_oldest_case_stays_open() -> None:
    old, new = opened(3), opened(5, at=NOW + DAY, revision=2)
    kept, closed = after_merge(SurveyKind.NPS, answer(5, at=NOW + DAY), [new, old])
    assert (kept.case_id, kept.rating, kept.closed) == (old.case_id, 5, None)
    assert (closed.case_id, closed.closed) == (new.case_id, NOW + DAY)


def test_a_merge_with_a_happy_half_closes_the_case() -> None:
    assert [case.closed for case in after_merge(SurveyKind.NPS, answer(9, at=NOW + DAY), [opened(3)])] == [NOW + DAY]


answers = st.builds(lambda rating, day: (rating, NOW + day * DAY), st.integers(0, 10), st.integers(0, 5))


@given(st.lists(answers, max_size=8))
def test_there_is_an_open_case_exactly_while_the_standing_answer_is_low(given_: list[tuple[int, datetime]]) -> None:
    standing: Answer | None = None
    case: Case | None = None
    for rating, at in given_:
        candidate = answer(rating, at=at, revision=standing.revision + 1 if standing else 1)
        if newest(standing, candidate) is candidate:
            standing = candidate
            changed = after_answer(SurveyKind.NPS, candidate, case, time_to_act=DAY)
            case = changed if changed and changed.closed is None else None
        assert (case is not None) is (standing is not None and standing.rating <= 6)
        if case is not None and standing is not None:
            assert case.rating == standing.rating


def test_what_the_log_says_is_kept_in_its_order() -> None:
    enter, leave = Enrolment("s", ANN, True), Enrolment("s", ANN, False)
    assert in_order([enter, leave, (ANN, BOB), (BOB, EVE), enter]) == [[leave], Merges({ANN: EVE, BOB: EVE}), [enter]]
    assert in_order([]) == []
    assert in_order([(ANN, BOB), (BOB, ANN)]) == [Merges({BOB: ANN})]


def test_only_the_last_word_on_a_membership_counts() -> None:
    said = [Enrolment("s", ANN, True), Enrolment("s", BOB, True), Enrolment("s", ANN, False)]
    assert set(last_word(said)) == {Enrolment("s", BOB, True), Enrolment("s", ANN, False)}
