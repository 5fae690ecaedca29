"""The matcher on records: what it finds, and what must not change it. Nothing here sets anything of the matcher's."""

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml.matching.clusters import connected, label_of, one_to_one
from ml.matching.columns import Role
from ml.matching.engine import Matched, Source, deduplicate, link
from ml.matching.quality import Quality, b_cubed, of_pairs
from tests.integration.ml.made_people import ROLES, Made, Shape, made_people

FEBRL = Path("../shared/data/febrl")
FEBRL_ROLES = {
    "given_name": Role.GIVEN_NAME,
    "surname": Role.SURNAME,
    "street_number": Role.STREET_NUMBER,
    "address_1": Role.STREET,
    "address_2": Role.STREET_2,
    "suburb": Role.CITY,
    "postcode": Role.POSTCODE,
    "state": Role.STATE,
    "date_of_birth": Role.BIRTH_DATE,
    "soc_sec_id": Role.NATIONAL_ID,
}
needs_febrl = pytest.mark.skipif(not FEBRL.is_dir(), reason="FEBRL is not there")


def found(matched: Matched, threshold: float = 0.9) -> set[frozenset[Any]]:
    return {frozenset((pair.left, pair.right)) for pair in matched.above(threshold)}


def _quality(made: Made, roles: Any = ROLES, **asked: Any) -> Quality:
    matched = deduplicate(
        made.source(**asked), {name: role for name, role in roles.items() if name not in asked.get("without", ())}
    )
    return of_pairs(found(matched), made.true_pairs(asked.get("rows")))


def _febrl(name: str, **changes: Any) -> tuple[Source, dict[Any, Any]]:
    table = pd.read_parquet(FEBRL / f"{name}.parquet").sample(frac=1.0, **changes)
    table = table.astype(object).where(table.notna(), None)
    return Source(list(table.rec_id), {column: list(table[column]) for column in FEBRL_ROLES}), dict(
        zip(table.rec_id, table.true_id, strict=True)
    )


@needs_febrl
def test_febrl3_is_found_whole_in_pairs_and_in_clusters() -> None:
    source, entities = _febrl("febrl3", random_state=0)
    matched = deduplicate(source, FEBRL_ROLES)
    groups = pd.Series(list(entities)).groupby(list(entities.values())).apply(list)
    true = {frozenset((one, other)) for group in groups for one in group for other in group if one < other}
    quality = of_pairs(found(matched), true)
    assert quality.f1 >= 0.99, quality
    clusters = connected([(pair.left, pair.right) for pair in matched.above()])
    cubed = b_cubed(label_of(source.ids, clusters), entities)
    assert min(cubed.precision, cubed.recall) >= 0.99, cubed
    assert max(map(len, clusters)) <= 6


def test_people_of_another_country_with_households_are_told_apart() -> None:
    quality = _quality(made_people(Shape()))
    assert quality.precision >= 0.97, quality
    assert quality.recall >= 0.85, quality


def test_few_doubles_among_many_households_are_no_flood_of_false_ones() -> None:
    quality = _quality(made_people(Shape(people=1200, share=0.03, typos=1, seed=4)))
    assert quality.precision >= 0.7, quality
    assert quality.recall >= 0.7, quality


def test_neither_order_nor_ids_nor_columns_names_change_a_weight() -> None:
    made = made_people(Shape(people=400, seed=3))
    rows = list(range(len(made.rows)))
    random.Random(5).shuffle(rows)
    straight, shuffled = made.source(), made.source(rows)
    renamed = Source([f"r{row}" for row in rows], {f"x{name}": values for name, values in shuffled.columns.items()})
    one = deduplicate(straight, ROLES)
    other = deduplicate(renamed, {f"x{name}": role for name, role in ROLES.items()})
    weights = {frozenset((f"r{pair.left}", f"r{pair.right}")): pair.weight for pair in one.pairs}
    assert {frozenset((pair.left, pair.right)) for pair in other.pairs} == weights.keys()
    for pair in other.pairs:
        assert pair.weight == pytest.approx(weights[frozenset((pair.left, pair.right))], abs=1e-6)


@pytest.mark.parametrize("without", [("mail",), ("telefon", "mail"), ("strasse", "nummer", "plz", "ort")])
def test_columns_that_are_not_there_cost_recall_and_not_precision(without: tuple[str, ...]) -> None:
    quality = _quality(made_people(Shape(seed=6)), without=without)
    assert quality.precision >= 0.93, quality
    assert quality.recall >= 0.6, quality


def test_half_of_the_rows_are_matched_as_well_as_all() -> None:
    made = made_people(Shape(seed=7))
    rows = sorted(random.Random(1).sample(range(len(made.rows)), len(made.rows) // 2))
    half, whole = _quality(made, rows=rows), _quality(made)
    assert half.precision >= 0.9, half
    assert abs(half.f1 - whole.f1) <= 0.1, (half, whole)


def test_two_sources_are_linked_one_to_one_and_say_what_agrees() -> None:
    made = made_people(Shape(people=700, share=1.0, seed=8))
    first: dict[int, int] = {}
    for row, entity in enumerate(made.entities):
        first.setdefault(entity, row)
    left, right = sorted(first.values()), sorted(set(range(len(made.rows))) - set(first.values()))
    matched = link(made.source(left), made.source(right), ROLES).above()
    kept = one_to_one([(pair.left, pair.right) for pair in matched], [pair.weight for pair in matched])
    quality = of_pairs({frozenset(pair) for pair in kept}, made.true_pairs())
    assert quality.precision >= 0.97, quality
    assert quality.recall >= 0.85, quality
    assert all(pair.left in set(left) and pair.right in set(right) for pair in matched)
    said = matched[0].agreements
    assert {each.comparison for each in said} >= {"given_name", "surname", "birth_date", "address"}
    assert not any(str(value) in each.level for each in said for value in made.rows[matched[0].left].values() if value)
