from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from rapport.features.v1 import features_pb2 as pb

from chassis.errors import InvalidArgument
from ml.features import catalogue
from ml.features import compile as compiler
from ml.features.compile import (
    Compiled,
    as_number,
    compile_distributed,
    compile_offline,
    compile_online,
    decimal_text,
    engine_sql,
)
from ml.features.definition import digest
from ml.features.engines import POSTGRES

ANY = pb.Feature(name="events_count", aggregation=pb.AGGREGATION_COUNT)


PRODUCTS = pb.Elements(property="products")


def where(**fields: object) -> pb.EventFilter:
    return pb.EventFilter(where=[pb.PropertyFilter(property="city", **fields)])  # type: ignore[arg-type]


def ratio(*parts: pb.Feature) -> pb.Feature:
    return pb.Feature(name="x", aggregation=pb.AGGREGATION_RATIO, parts=parts)


def changed(feature: pb.Feature, **fields: object) -> pb.Feature:
    again = pb.Feature(**fields)  # type: ignore[arg-type]
    merged = pb.Feature()
    merged.CopyFrom(feature)
    merged.MergeFrom(again)
    return merged


def test_the_committed_sql_is_what_ibis_compiles_now() -> None:
    committed = {path.stem: path.read_text() for path in compiler.COMPILED.glob("*.sql")}
    assert committed.keys() == {digest(features) for features in catalogue.SETS.values()}
    for features in catalogue.SETS.values():
        assert committed[digest(features)] == engine_sql(features, POSTGRES), "run `python -m ml.features.compile`"


def test_every_feature_has_one_name_a_sentence_and_one_set() -> None:
    names = [feature.name for feature in catalogue.EVERY]
    assert len(set(names)) == len(names) == len(catalogue.SET_OF)
    assert [feature.name for feature in catalogue.EVERY if not feature.description.endswith(".")] == []


def test_the_churn_models_definitions_stay_what_they_were_when_others_come() -> None:
    # A model that was trained on others is refused, so another digest here ends every model that serves.
    assert digest(catalogue.SETS["churn"]) == "eedb4801b0ad7f15b9553ff59a0fae2f1bba29db18e87fabf8c79c8d18bfa614"


def test_the_ten_features_have_their_names_in_their_order() -> None:
    assert catalogue.NAMES == (
        "orders_count",
        "orders_90d",
        "revenue_total",
        "revenue_90d",
        "refunds_total",
        "days_since_last_order",
        "days_since_first_order",
        "mean_order_interval_days",
        "active_days_90d",
        "tickets_90d",
    )


def test_a_digest_changes_with_the_meaning_and_not_with_the_words() -> None:
    first, *others = catalogue.FEATURES
    ours = digest(catalogue.FEATURES)
    assert digest([changed(first, description="Said otherwise."), *others]) == ours
    assert digest([changed(first, window_days=30), *others]) != ours
    assert digest([*others, first]) != ours
    assert digest(others) != ours


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (changed(ANY, name="Events Count"), "features.name"),
        (pb.Feature(name="as_of", aggregation=pb.AGGREGATION_COUNT), "features.name"),
        (pb.Feature(name="x"), "features.aggregation"),
        (changed(ANY, window_days=-1), "features.window_days"),
        (changed(ANY, window_days=40_000), "features.window_days"),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_SUM), "features.value"),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_SUM, value=pb.Value(text="city")), "features.value"),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text='a"b')), "features.value"),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="a\0b")), "features.value"),
        (
            changed(ANY, events=pb.EventFilter(any_of=[pb.EventFilter(any_of=[pb.EventFilter(type="page")])])),
            "features.events.any_of",
        ),
        (changed(ANY, offset_days=-1), "features.offset_days"),
        (changed(ANY, events=pb.EventFilter(names=["a\0b"])), "features.events.names"),
        (changed(ANY, events=pb.EventFilter(names=["a"] * 51)), "features.events.names"),
        (changed(ANY, events=pb.EventFilter(where=[pb.PropertyFilter(property="city")])), "features.events.where"),
        (changed(ANY, events=where(texts=["a"], below="3")), "features.events.where"),
        (changed(ANY, events=where(at_least="1e3")), "features.events.where"),
        (changed(ANY, elements=pb.Elements()), "features.elements.property"),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_SESSIONS, elements=PRODUCTS), "features.elements"),
        (
            pb.Feature(name="x", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="a", times="b")),
            "features.value.times",
        ),
        (pb.Feature(name="x", aggregation=pb.AGGREGATION_LAST, value=pb.Value(field=9)), "features.value.field"),  # type: ignore[arg-type]
        (changed(ANY, parts=[ANY]), "features.parts"),
        (ratio(pb.Feature(aggregation=pb.AGGREGATION_COUNT)), "features.parts"),
        (ratio(ANY, ANY), "features.parts[0].name"),
        (ratio(pb.Feature(aggregation=pb.AGGREGATION_RATIO), pb.Feature()), "features.parts[0].parts"),
        (ratio(pb.Feature(aggregation=pb.AGGREGATION_LAST), pb.Feature()), "features.parts[0].aggregation"),
        (changed(ratio(ANY, ANY), window_days=3), "features.window_days"),
    ],
)
def test_a_definition_that_cannot_be_compiled_is_refused_by_field(broken: pb.Feature, field: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        compile_online([broken])
    assert refusal.value.field == field


def test_no_features_or_two_of_one_name_are_refused() -> None:
    for features in ([], [ANY, ANY]):
        with pytest.raises(InvalidArgument):
            compile_offline(features)


def test_a_quote_in_a_property_stays_inside_its_literal() -> None:
    feature = pb.Feature(name="x", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="it's; DROP TABLE y"))
    assert "'it''s; DROP TABLE y'" in compile_online([feature]).sql
    assert "'$.\"it''s; DROP TABLE y\"'" in compile_offline([feature]).sql


def test_no_engine_is_asked_for_its_clock() -> None:
    for compiled in (compile_online, compile_offline, compile_distributed):
        for features in catalogue.SETS.values():
            assert not {"now()", "current_timestamp", "current_date"} & set(compiled(features).sql.lower().split())


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    feature = pb.Feature(name="x", aggregation=pb.AGGREGATION_COUNT)
    feature.since.FromDatetime(datetime(2024, 3, 1, tzinfo=UTC))
    feature.until.FromDatetime(datetime(2024, 3, 1, tzinfo=UTC))
    with pytest.raises(InvalidArgument) as refusal:
        compile_online([feature])
    assert refusal.value.field == "features.until"


@pytest.mark.parametrize(
    ("value", "text"),
    [("12.5", "12.50"), ("0", "0.00"), ("1E+3", "1000.00"), ("-3.250000000", "-3.25"), ("0.123456789", "0.123456789")],
)
def test_a_decimal_is_written_exactly(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


def test_a_row_is_decoded_with_a_status_for_each_value() -> None:
    features = (
        ANY,
        pb.Feature(name="spent", aggregation=pb.AGGREGATION_SUM, value=pb.Value(number="revenue")),
        pb.Feature(name="days", aggregation=pb.AGGREGATION_DAYS_SINCE_LAST),
        pb.Feature(name="city", aggregation=pb.AGGREGATION_LAST, value=pb.Value(text="city")),
    )
    newest = datetime(2024, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    row = {"profile_id": "p", "events_count": 3, "spent": Decimal("0.10"), "days": None, "city": "北京", "newest_event": newest}
    decoded = Compiled(features, "", "").decode(row)
    present, missing = pb.FEATURE_STATUS_PRESENT, pb.FEATURE_STATUS_NULL_VALUE
    assert [value.status for value in decoded.values] == [present, present, missing, present]
    assert (decoded.values[0].number, decoded.values[1].decimal, decoded.values[3].text) == (3.0, "0.10", "北京")
    assert decoded.newest_event.ToDatetime(UTC) == newest
    assert [as_number(value) for value in decoded.values[:2]] == [3.0, 0.1]
    assert all(as_number(value) != as_number(value) for value in decoded.values[2:]), "NaN where a model reads no number"
