"""Five blocks, and an empty one says so by having no entries."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from services.profiles.domain.classify import FieldClass
from services.profiles.domain.portrait import Activity, Entry, Favourite, Known, SurveyAnswer, blocks

DAY = datetime(2026, 1, 2, tzinfo=UTC)
NOBODY = Known({}, {}, {}, [], 0, [], [], [])


def test_of_nobody_nothing_is_said_in_five_blocks() -> None:
    assert blocks(NOBODY) == {"basic": [], "consumption": [], "behaviour": [], "psychology": [], "social": []}


def test_personal_traits_are_marked() -> None:
    known = replace(NOBODY, public={"plan": "pro"}, personal={"email": "a@b.c", "preference.colour": "red"})
    portrait = blocks(known)
    assert portrait["basic"] == [Entry("email", "a@b.c", personal=True), Entry("plan", "pro")]
    assert portrait["psychology"] == [Entry("preference.colour", "red", personal=True)]


def test_sensitive_traits_are_marked_also_within_others() -> None:
    personal = {"passport": "X1", "documents": {"iban": "GB00"}, "social": {"ssn": "1", "nick": "ada"}}
    portrait = blocks(replace(NOBODY, public={"plan": "pro"}, personal=personal))
    assert {entry.name: entry.sensitive for entry in portrait["basic"]} == {"passport": True, "documents": True, "plan": False}
    assert {entry.name: entry.sensitive for entry in portrait["social"]} == {"social.ssn": True, "social.nick": False}


def test_traits_are_sensitive_also_where_the_tenant_declares_it() -> None:
    personal = {"icd": "F32", "visit": {"icd": "F33"}, "social": {"icd": "F34", "nick": "ada"}}
    portrait = blocks(replace(NOBODY, personal=personal, classes={"icd": FieldClass.SENSITIVE}))
    entries = [*portrait["basic"], *portrait["social"]]
    assert {entry.name: entry.sensitive for entry in entries} == {
        "icd": True, "visit": True, "social.icd": True, "social.nick": False,
    }  # fmt: skip


def test_all_parts_of_a_trait_that_is_declared_sensitive_are() -> None:
    personal = {"preferences": {"colour": "red", "sizes": [1]}, "hobby": "tea"}
    portrait = blocks(replace(NOBODY, personal=personal, classes={"preferences": FieldClass.SENSITIVE}))
    entries = {entry.name: entry.sensitive for entry in portrait["psychology"]}
    assert entries == {"hobby": False, "preferences.colour": True, "preferences.sizes": True}


def test_consumption_is_orders_money_and_favourites() -> None:
    features = {"orders_count": ("4", "orders"), "revenue_total": ("50.02", "currency"), "refunds_total": ("5.00", "currency")}
    known = replace(NOBODY, features=features, categories=[Favourite("kitchen", Decimal("12.000"))])
    entries = {entry.name: (entry.value, entry.unit) for entry in blocks(known)["consumption"]}
    assert entries["average_order_value"] == ("12.50", "currency")
    assert entries["refunds_total"] == ("5.00", "currency")
    assert entries["favourite_category"] == ("kitchen", "12 bought")


def test_who_never_ordered_has_no_zeros_for_consumption() -> None:
    features = {"orders_count": ("0", "orders"), "revenue_total": ("0.00", "currency")}
    assert blocks(replace(NOBODY, features=features))["consumption"] == []


def test_what_services_recorded_is_no_behaviour() -> None:
    scored = Activity("track", "Churn Scored", "", is_fact=True, count=9, first=DAY, last=DAY)
    assert blocks(replace(NOBODY, activities=[scored]))["behaviour"] == []
    page = Activity("page", "Home", "web", is_fact=False, count=2, first=DAY, last=DAY)
    entries = blocks(replace(NOBODY, activities=[scored, page], visit_days=1))["behaviour"]
    assert [(entry.name, entry.value) for entry in entries] == [
        ("last_seen", "2026-01-02"),
        ("visit_days", "1"),
        ("channel", "web"),
    ]


def test_psychology_is_preferences_and_survey_answers() -> None:
    known = replace(
        NOBODY,
        public={"interests": ["tea", "art"], "preference": {"colour": "red", "sizes": [1, 2]}},
        answers=[SurveyAnswer("NPS", Decimal("9"), DAY), SurveyAnswer("CSAT", None, DAY)],
    )
    entries = {entry.name: entry.value for entry in blocks(known)["psychology"]}
    assert entries == {"interests": "tea, art", "preference.colour": "red", "preference.sizes": "[1, 2]", "nps_rating": "9"}


def test_social_is_what_was_shared_and_social_traits() -> None:
    shared = Activity("track", "Product Shared", "app", is_fact=False, count=3, first=DAY, last=DAY)
    known = replace(NOBODY, activities=[shared], public={"social": {"followers": 12}})
    entries = {entry.name: entry.value for entry in blocks(known)["social"]}
    assert entries == {"social.followers": "12", "Product Shared": "3"}
