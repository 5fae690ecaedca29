"""The matcher's pure parts: values as they are compared, blocks, clusters, households, quality."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.matching import households
from ml.matching.blocking import candidates, lessons
from ml.matching.clusters import connected, one_to_one, pairs_within
from ml.matching.columns import Role, rarest, words, written
from ml.matching.comparisons import comparisons
from ml.matching.engine import NotEnoughData, Source, deduplicate
from ml.matching.quality import b_cubed, of_pairs
from ml.matching.translation import dictionary, translated

PERSON = {role.value: role for role in Role if role not in (Role.TEXT, Role.PEOPLE, Role.YEAR, Role.CATEGORY)}


@pytest.mark.parametrize(
    ("value", "role", "expected"),
    [
        ("  Renée O'Hara ", Role.GIVEN_NAME, "renee o hara"),
        ("1984-03-05", Role.BIRTH_DATE, "19840305"),
        ("05.03.1984", Role.BIRTH_DATE, "19840305"),
        ("19843505", Role.BIRTH_DATE, "19843505"),
        ("in spring", Role.BIRTH_DATE, None),
        ("+49 (0)69 123 4567", Role.PHONE, "691234567"),
        ("069 1234567", Role.PHONE, "691234567"),
        ("12", Role.PHONE, None),
        ("Ada@Example.org", Role.EMAIL, "ada@example.org"),
        ("ada at example", Role.EMAIL, None),
        ("LS1 4AB", Role.POSTCODE, "ls14ab"),
        ("N/A", Role.SURNAME, None),
        ("unknown", Role.CITY, None),
        (float("nan"), Role.CITY, None),
        (None, Role.CITY, None),
        ("published in 1999", Role.YEAR, "1999"),
    ],
)
def test_a_value_is_written_as_its_kind_is_compared(value: object, role: Role, expected: str | None) -> None:
    assert written(value, role) == expected


def test_people_are_their_last_names_in_order_whatever_stands_before() -> None:
    assert words("W. I. Grosky, D. V. Sreenath", Role.PEOPLE) == ["grosky", "sreenath"]
    assert words("D. Sreenath; William Grosky", Role.PEOPLE) == ["grosky", "sreenath"]
    assert words("", Role.PEOPLE) is None


def test_a_text_is_looked_up_by_its_rarest_words_that_another_has_too() -> None:
    column = [["a", "rare", "the"], ["rare", "the"], ["the"], ["alone", "the"], None]
    assert rarest(column)[0] == ["rare", "the"]
    assert rarest(column)[3] == ["the"]
    assert rarest(column)[4] is None


def test_each_comparison_ends_with_what_is_left_and_its_shares_are_all_pairs() -> None:
    for comparison in comparisons(
        {**PERSON, "text": Role.TEXT, "people": Role.PEOPLE, "year": Role.YEAR, "category": Role.CATEGORY}
    ):
        assert comparison.levels[-1].holds == "ELSE"
        assert sum(level.share for level in comparison.levels) == pytest.approx(1)
        assert next(level.share for level in comparison.levels) == max(level.share for level in comparison.levels)


@given(st.sets(st.sampled_from(sorted(PERSON))))
def test_rules_name_only_columns_that_are_there(names: set[str]) -> None:
    columns = {name: PERSON[name] for name in names}
    for rule in [*candidates(columns), *lessons(columns)]:
        assert {key for pair in rule.keys for key in pair} <= names


def test_nothing_is_learnt_where_a_household_agrees() -> None:
    taught = [{key for pair in rule.keys for key in pair} for rule in lessons(PERSON)]
    assert taught
    assert not any(keys <= {"surname", "phone", "street", "street_number", "city", "postcode"} for keys in taught)


def test_clusters_are_what_pairs_connect() -> None:
    found = connected([("a", "b"), ("c", "d"), ("b", "c"), ("x", "y")])
    assert sorted(map(sorted, found)) == [["a", "b", "c", "d"], ["x", "y"]]
    assert len(pairs_within(found)) == 7


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_clusters_share_no_member_and_keep_every_pair_together(pairs: list[tuple[int, int]]) -> None:
    found = connected(pairs)
    assert sum(map(len, found)) == len({member for pair in pairs for member in pair})
    assert all(any({one, other} <= cluster for cluster in found) for one, other in pairs)


def test_one_to_one_takes_the_heaviest_first_and_each_end_once() -> None:
    assert one_to_one([("a", 1), ("a", 2), ("b", 2), ("b", 1)], [5.0, 9.0, 8.0, 1.0]) == [("a", 2), ("b", 1)]


def test_quality_of_pairs_and_clusters_against_counted_ones() -> None:
    quality = of_pairs({1, 2, 3}, {2, 3, 4, 5})
    assert (quality.precision, quality.recall) == (2 / 3, 2 / 4)
    assert quality.f1 == pytest.approx(4 / 7)
    # One cluster of an entity's two and a stranger, and the entity's third left alone.
    cubed = b_cubed({"a": 1, "b": 1, "x": 1, "c": 2}, {"a": "A", "b": "A", "c": "A", "x": "X"})
    assert cubed.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1) / 4)
    assert cubed.recall == pytest.approx((2 / 3 + 2 / 3 + 1 + 1 / 3) / 4)


def test_categories_are_translated_where_most_pairs_agree_how() -> None:
    pairs = [("vldb", "very large data bases")] * 8 + [("sigmod", "very large data bases")] * 2 + [("x", "rare")] * 2
    names = dictionary(pairs)
    assert names == {"very large data bases": "vldb"}
    assert translated(["very large data bases", "rare", None], names) == ["vldb", "rare", None]


def _expected(same: float = 100.0) -> households.Expected:
    own = {"given_name": 0.05, "birth_date": 0.04}
    return households.Expected(1_000_000, same, own, {"surname": 0.8, "phone": 0.8, "address": 0.7})


def test_households_that_are_there_take_off_what_they_share_and_those_that_are_not_nothing() -> None:
    sizes = {1: 2_000, 2: 300, 3: 300}

    def count(rule: object) -> int:
        return sizes[1]

    some = households.discounts(PERSON, _expected(), count, lambda rule: 300)
    none = households.discounts(PERSON, _expected(), count, lambda rule: 0)
    assert all(bits > 5 for bits in some.values())
    assert set(none.values()) == {0.0}
    shared = [("surname", 9.0), ("phone", 10.0), ("birth_date", -4.0)]
    assert 0 < households.discount(some, shared) <= 9.0
    assert households.discount(some, [("surname", 9.0), ("phone", 0.0)]) == 0.0
    assert households.discount(none, shared) == 0.0


@pytest.mark.parametrize(
    ("rows", "columns", "sentence"),
    [
        (99, ("given_name", "surname", "birth_date"), "there are 99 records"),
        (150, ("given_name",), "1 comparable columns"),
        (150, (), "0 comparable columns"),
    ],
)
def test_too_little_is_said_to_be_too_little(rows: int, columns: tuple[str, ...], sentence: str) -> None:
    values = {name: [f"{name}{row}" for row in range(rows)] for name in ("given_name", "surname")}
    values["birth_date"] = [f"19{row % 90 + 10}0101" for row in range(rows)]
    with pytest.raises(NotEnoughData, match=sentence):
        deduplicate(Source(list(range(rows)), values), {name: PERSON[name] for name in columns})
