"""Kinds of columns, and how a value of each kind is written before it is compared."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, Final

# Values that stand for "not known".
_EMPTY: Final = frozenset({"", "null", "none", "nan", "na", "n a", "n/a", "unknown", "undefined", "test", "xxx", "-", "?"})
_DATES: Final = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y-%m-%dT%H:%M:%S")
# The last digits of a phone number, in which national and international writing agree.
_PHONE_DIGITS: Final = 9
# Words by which a long text is looked up: its rarest. A word that more records than this hold finds nobody.
_KEYS: Final = 4
_COMMON: Final = 200


class Role(Enum):
    """What a column holds."""

    GIVEN_NAME = "given_name"
    SURNAME = "surname"
    BIRTH_DATE = "birth_date"
    STREET_NUMBER = "street_number"
    STREET = "street"
    STREET_2 = "street_2"
    CITY = "city"
    POSTCODE = "postcode"
    STATE = "state"
    PHONE = "phone"
    EMAIL = "email"
    NATIONAL_ID = "national_id"
    TEXT = "text"
    PEOPLE = "people"
    YEAR = "year"
    CATEGORY = "category"


def plain(value: str) -> str:
    """Lower case, without accents and punctuation, single spaces."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", value.lower()) if not unicodedata.combining(char))
    return " ".join(re.sub(r"[^\w]+", " ", bare).split())


def _date(value: str) -> str:
    """Eight digits, year first; a text that is no date keeps its digits, so that a typing error can still be seen."""
    for form in _DATES:
        try:
            return datetime.strptime(value.removesuffix("Z"), form).strftime("%Y%m%d")  # noqa: DTZ007
        except ValueError:
            continue
    digits = re.sub(r"\D", "", value)
    return digits if len(digits) == 8 else ""


def _phone(value: str) -> str:
    digits = re.sub(r"\D", "", value)
    return digits[-_PHONE_DIGITS:] if len(digits) >= 6 else ""


def _email(value: str) -> str:
    return value.lower() if value.count("@") == 1 and not value.startswith("@") else ""


def _year(value: str) -> str:
    found = re.search(r"\d{4}", value)
    return found.group() if found else ""


def _compact(value: str) -> str:
    return plain(value).replace(" ", "")


_WRITTEN: Final[Mapping[Role, Callable[[str], str]]] = {
    Role.BIRTH_DATE: _date,
    Role.PHONE: _phone,
    Role.EMAIL: _email,
    Role.YEAR: _year,
    Role.NATIONAL_ID: _compact,
    Role.POSTCODE: _compact,
    Role.STREET_NUMBER: _compact,
}
LISTS: Final = frozenset({Role.TEXT, Role.PEOPLE})


def written(value: Any, role: Role) -> str | None:
    """A value as it is compared; None where nothing is known."""
    if value is None or value != value:
        return None
    text = value.strftime("%Y%m%d") if isinstance(value, date) else str(value).strip()
    if text.lower() in _EMPTY or plain(text) in _EMPTY:
        return None
    return _WRITTEN.get(role, plain)(text) or None


def words(value: Any, role: Role) -> list[str] | None:
    """The words of a text, or of a list of people their last names, each once and in order; None where nothing is known."""
    if (text := written(value, role)) is None:
        return None
    if role is Role.TEXT:
        return sorted(set(text.split()))
    people = value if isinstance(value, list | tuple) else re.split(r"[,;&]|\band\b", str(value).lower())
    return sorted({name.split()[-1] for person in people if (name := plain(str(person)))}) or None


def rarest(column: Sequence[list[str] | None]) -> list[list[str] | None]:
    """Of each list the words by which it is looked up: those that the fewest lists hold."""
    counts = Counter(word for each in column if each for word in each)
    return [_rare(each, counts) if each else None for each in column]


def _rare(each: Iterable[str], counts: Counter[str]) -> list[str] | None:
    ranked = sorted((word for word in each if 1 < counts[word] <= _COMMON), key=lambda word: (counts[word], word))
    return ranked[:_KEYS] or None
