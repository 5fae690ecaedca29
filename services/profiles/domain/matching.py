"""Which pairs that a matcher weighed are worth a person's look."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

# A pair that was rejected comes back where it weighs so many bits more than it did then: a thousand times as likely.
RISE_BITS: Final = 10.0
# Suggested from this probability on; automatic acceptance starts no lower than ACCEPT_FLOOR.
SUGGEST_FROM: Final = 0.5
ACCEPT_FLOOR: Final = 0.9
# Why a pair is rejected: words of ours, since what people write may be personal.
REASONS: Final = ("different_people", "same_household", "namesakes", "too_little_known", "other")
# The most that one run holds in memory, and suggests.
MAX_PEOPLE: Final = 200_000
MAX_SUGGESTIONS: Final = 20_000

Two: TypeAlias = tuple[UUID, UUID]


def two_of(one: UUID, other: UUID) -> Two:
    """Both in order."""
    return (one, other) if one.int < other.int else (other, one)


@dataclass(frozen=True, slots=True)
class Said:
    """What one comparison says of a pair, without the values."""

    comparison: str
    level: str
    weight: float


@dataclass(frozen=True, slots=True)
class Suggested:
    """A pair with its weight in bits."""

    two: Two
    weight: float
    probability: float
    said: Sequence[Said]


@dataclass(frozen=True, slots=True)
class Decided:
    """A pair that a person decided on, as its profiles are called now, and what it weighed then."""

    two: Two
    weight: float
    is_rejected: bool


def worth_a_look(found: Iterable[Suggested], decided: Iterable[Decided], parted: Set[Two]) -> list[Suggested]:
    """Those that nobody decided on or parted, or that rose since they were rejected; the heaviest, and no more than fit."""
    before: dict[Two, float] = {}
    for each in decided:
        bar = each.weight + RISE_BITS if each.is_rejected else float("inf")
        before[each.two] = max(bar, before.get(each.two, bar))
    kept = [each for each in found if each.two not in parted and each.weight >= before.get(each.two, float("-inf"))]
    return sorted(kept, key=lambda each: (-each.weight, each.two))[:MAX_SUGGESTIONS]


# Our names of what a person is compared by.
GIVEN_NAME: Final = "given_name"
SURNAME: Final = "surname"
BIRTH_DATE: Final = "birth_date"
STREET_NUMBER: Final = "street_number"
STREET: Final = "street"
CITY: Final = "city"
POSTCODE: Final = "postcode"
STATE: Final = "state"
PHONE: Final = "phone"
EMAIL: Final = "email"
COLUMNS: Final = (GIVEN_NAME, SURNAME, BIRTH_DATE, STREET_NUMBER, STREET, CITY, POSTCODE, STATE, PHONE, EMAIL)


def compared(traits: Mapping[str, Any]) -> dict[str, str]:
    """What Segment's reserved traits say of a person, by our names; what is not a text or a number is not there."""
    address = traits.get("address")
    place = cast("Mapping[str, Any]", address if isinstance(address, dict) else {})
    given, surname = _names(traits)
    number, street = _line(_text(place.get("street")))
    values = {
        GIVEN_NAME: given,
        SURNAME: surname,
        BIRTH_DATE: _text(traits.get("birthday")),
        STREET_NUMBER: number,
        STREET: street,
        CITY: _text(place.get("city")),
        POSTCODE: _text(place.get("postalCode")),
        STATE: _text(place.get("state")),
        PHONE: _text(traits.get("phone")),
        EMAIL: _text(traits.get("email")),
    }
    return {name: value for name, value in values.items() if value}


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _names(traits: Mapping[str, Any]) -> tuple[str, str]:
    given, surname = _text(traits.get("firstName")), _text(traits.get("lastName"))
    if not given and not surname and (parts := _text(traits.get("name")).split()):
        return " ".join(parts[:-1]), parts[-1]
    return given, surname


def _line(street: str) -> tuple[str, str]:
    """(number, street) of an address line: the number stands first or last, as the country has it."""
    words = street.split()
    for at in (0, -1):
        if len(words) > 1 and any(char.isdigit() for char in words[at]):
            number = words.pop(at)
            return number.strip(","), " ".join(words)
    return "", street
