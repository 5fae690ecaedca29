"""Where calls name people, how identifiers are written, and whose they never are."""

from typing import Any

import pytest

from services.profiles.domain.identifiers import Rules, found_in, is_nobodys, normalised, rules_of, rules_text, told_in
from services.profiles.domain.identity import Namespace


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("a.da+shop@gmail.com", "a.da+shop@gmail.com"),  # what a provider makes of dots and pluses is its own affair
        ("e\u0301@example.com", "\u00e9@example.com"),
        ("ada@", ""),
        ("ada example.com", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_an_address_is_compared_without_case_and_blanks(given: Any, wanted: str) -> None:
    assert normalised(Namespace.EMAIL, given) == wanted


@pytest.mark.parametrize(
    ("given", "country", "wanted"),
    [
        ("+44 20 7946 0958", "", "+442079460958"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("020 7946 0958", "gb", "+442079460958"),
        ("020 7946 0958", "", ""),  # it may be anybody's
        ("+44 20 7946 0958", "DE", "+442079460958"),
        ("12", "GB", ""),
        ("not a number", "GB", ""),
    ],
)
def test_a_telephone_number_needs_its_country(given: str, country: str, wanted: str) -> None:
    assert normalised(Namespace.PHONE, given, country) == wanted


@pytest.mark.parametrize(
    "value", ["null", "NULL", " undefined ", "None", "0", "-1", "00000000-0000-0000-0000-000000000000", "xxxx", "anonymous"]
)
def test_some_values_are_nobodys(value: str) -> None:
    assert is_nobodys(Namespace.USER_ID, value)
    assert is_nobodys(Namespace.EXTERNAL_ID, f"crm:{value}")


@pytest.mark.parametrize("value", ["u", "7", "1111", "nullable", "anonymous-7", "0001"])
def test_others_are_somebodys(value: str) -> None:
    assert not is_nobodys(Namespace.USER_ID, value)


def test_an_address_of_nobody_finds_nobody() -> None:
    assert found_in({"email": "test@test.com", "phone": "+0000000"}, {}) == []


def test_a_call_names_people_in_traits_and_context() -> None:
    context = {
        "traits": {"email": "bob@example.com"},
        "locale": "en-GB",
        "device": {"id": "d-1", "advertisingId": "ad-1"},
        "externalIds": [
            {"id": "42", "type": "crm_id", "collection": "users", "encoding": "none"},
            {"id": "43", "type": "crm_id", "collection": "accounts", "encoding": "none"},
            {"id": "44", "type": "crm_id", "encoding": "sha256"},
            {"id": "Eve@Example.com", "type": "email"},
            "none",
        ],
    }
    assert found_in({"email": "Ada@example.com", "phone": "020 7946 0958"}, context) == [
        (Namespace.EMAIL, "ada@example.com"),
        (Namespace.PHONE, "+442079460958"),
        (Namespace.EMAIL, "bob@example.com"),
        (Namespace.DEVICE_ID, "d-1"),
        (Namespace.DEVICE_ID, "ad-1"),
        (Namespace.EXTERNAL_ID, "crm_id:42"),
        (Namespace.EMAIL, "eve@example.com"),
    ]
    off = {"device": {"advertisingId": "ad-1", "adTrackingEnabled": False}}
    assert found_in({}, off) == []


def test_what_a_sealed_part_tells_is_read_again() -> None:
    secret = {"userId": "u", "traits": {"email": "ada@example.com"}, "context": "none"}
    assert told_in(secret) == [(Namespace.USER_ID, "u"), (Namespace.EMAIL, "ada@example.com")]


def test_rules_come_back_as_they_were_stored() -> None:
    rules = Rules(frozenset({Namespace.EMAIL, Namespace.PHONE}))
    assert rules_of(rules_text(rules)) == rules
    assert rules_of(None) == Rules()
