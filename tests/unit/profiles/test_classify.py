"""What is personal is found by name and by value, and nothing is lost by the split."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.classify import FieldClass, Kind, is_sensitive, kind_of, split

KEYS = st.sampled_from(
    ["email", "plan", "name", "price", "products", "billing_address", "x.email", "interests", "a@b", "title"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["pro", "x@y.z", "https://a/b", "w" * 65, "w" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("kind", "fields", "public"),
    [
        (Kind.TRAITS, {"email": "x", "plan": "pro", "country": "UK", "age": 31}, {"plan": "pro", "country": "UK"}),
        (Kind.TRAITS, {"firstName": "A", "last_name": "B", "Phone": "1", "birthday": "2000-01-01"}, {}),
        (Kind.TRAITS, {"address": {"city": "Leeds"}, "company": {"name": "X"}, "id": 7}, {}),
        (Kind.TRAITS, {"createdAt": "2020", "interests": ["tea", "art"]}, {"createdAt": "2020", "interests": ["tea", "art"]}),
        (Kind.TRAITS, {"preference": {"colour": "red", "email": "x"}}, {"preference": {"colour": "red"}}),
        (Kind.TRAITS, {"email_verified": True, "customer_email": "x", "contact.phone": "1"}, {"email_verified": True}),
        (Kind.PAGE, {"url": "u", "path": "/p", "title": "t", "search": "?q", "category": "kitchen"}, {"category": "kitchen"}),
        (Kind.TRACK, {"name": "Ann", "topic": "delivery", "message": "where is it"}, {"topic": "delivery"}),
        (Kind.TRACK, {"topic": "t" * 64, "essay": "t" * 65}, {"topic": "t" * 64}),
        (Kind.TRACK, {"who": "ann@example.com", "where": "https://x/?u=1", "n": 5}, {"n": 5}),
        (Kind.TRACK, {"ann@example.com": 5, "k" * 65: 1}, {}),
        (Kind.COMMERCE, {"name": "n" * 256, "query": "socks"}, {"name": "n" * 256}),
        (Kind.COMMERCE, {"name": "n" * 257}, {}),
    ],
)  # fmt: skip
def test_what_is_public(kind: Kind, fields: dict[str, Any], public: dict[str, Any]) -> None:
    assert split(fields, kind)[0] == public


def test_products_stay_public_and_in_order_when_a_part_of_one_is_personal() -> None:
    products = [{"product_id": "1", "price": 2.5}, {"product_id": "2", "url": "https://shop/2"}]
    public, personal = split({"order_id": "o", "products": products}, Kind.COMMERCE)
    assert public == {"order_id": "o", "products": [{"product_id": "1", "price": 2.5}, {"product_id": "2"}]}
    assert personal == {"products": [None, {"url": "https://shop/2"}]}


def test_what_is_declared_is_personal_at_any_depth_and_nothing_else_changes() -> None:
    declared = {"code": FieldClass.SENSITIVE, "tags": FieldClass.PERSONAL}
    fields = {"code": 7, "tags": ["a"], "plan": "pro", "visit": {"code": "F32", "room": 4}, "rows": [{"code": None, "n": 1}, 2]}
    public, personal = split(fields, Kind.TRACK, declared)
    assert public == {"plan": "pro", "visit": {"room": 4}, "rows": [{"n": 1}, 2]}
    assert personal == {"code": 7, "tags": ["a"], "visit": {"code": "F32"}, "rows": [{"code": None}, None]}
    assert [is_sensitive(key, fields[key], declared) for key in fields] == [True, False, False, True, True]
    assert not is_sensitive("code")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every value that is no container, and every empty container, by its path; null is nothing."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {below: leaf for key, item in items for below, leaf in _leaves(item, (*path, key)).items()}
    return {} if value is None or not path else {path: value}


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.sampled_from(Kind))
def test_both_halves_together_are_all_of_it_and_they_share_nothing(fields: dict[str, Any], kind: Kind) -> None:
    public, personal = (_leaves(half) for half in split(fields, kind))
    assert not public.keys() & personal.keys()
    assert public | personal == _leaves(fields)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.sampled_from(Kind))
def test_nothing_public_looks_like_an_address_or_has_a_personal_name(fields: dict[str, Any], kind: Kind) -> None:
    for path, value in _leaves(split(fields, kind)[0]).items():
        assert "email" not in path
        assert not (isinstance(value, str) and ("@" in value or "://" in value or len(value) > 256))


def test_the_call_decides_what_its_fields_describe() -> None:
    assert kind_of("identify", "") is Kind.TRAITS
    assert kind_of("screen", "Home") is Kind.PAGE
    assert kind_of("track", "Order Completed") is Kind.COMMERCE
    assert kind_of("track", "Signed Up") is Kind.TRACK


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("passport", "X1234567"),
        ("Passport_Number", "X1"),
        ("billing.iban", "GB00"),
        ("documents", {"taxId": "1"}),
        ("documents", [{"kind": "card"}, {"cvv": 1}]),
        ("religion", "none"),
    ],
)
def test_what_is_sensitive(key: str, value: Any) -> None:
    assert is_sensitive(key, value)


@pytest.mark.parametrize(("key", "value"), [("email", "ada@example.com"), ("category", "health"), ("plan", {"name": "gold"})])
def test_what_is_not_sensitive(key: str, value: Any) -> None:
    assert not is_sensitive(key, value)


SENSITIVE = st.sampled_from(["password", "ssn", "Health", "tax_id", "plan"])


@given(st.dictionaries(SENSITIVE, VALUES | st.dictionaries(SENSITIVE, VALUES, max_size=2), max_size=4), st.sampled_from(Kind))
def test_what_is_sensitive_is_personal(fields: dict[str, Any], kind: Kind) -> None:
    public, _ = split(fields, kind)
    assert not is_sensitive("", public)
