"""Which pairs are looked at at all: those that agree in at least one of these ways."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ml.matching.columns import LISTS, Role

_SINGLE = (Role.NATIONAL_ID, Role.EMAIL, Role.PHONE, Role.BIRTH_DATE)
_PAIRS = (
    (Role.GIVEN_NAME, Role.SURNAME),
    (Role.SURNAME, Role.POSTCODE),
    (Role.GIVEN_NAME, Role.POSTCODE),
    (Role.SURNAME, Role.CITY),
    (Role.GIVEN_NAME, Role.CITY),
    (Role.STREET, Role.STREET_NUMBER),
    (Role.STREET, Role.POSTCODE),
    (Role.STREET, Role.CITY),
    (Role.STREET_NUMBER, Role.POSTCODE),
)
# Pairs that agree in all of one of these are taken for the same when the share of such pairs is first guessed.
_CERTAIN = (
    (Role.GIVEN_NAME, Role.SURNAME, Role.BIRTH_DATE),
    (Role.GIVEN_NAME, Role.SURNAME, Role.POSTCODE),
    (Role.NATIONAL_ID, Role.BIRTH_DATE),
    (Role.NATIONAL_ID, Role.SURNAME),
    (Role.GIVEN_NAME, Role.BIRTH_DATE, Role.POSTCODE),
    (Role.EMAIL, Role.SURNAME),
    (Role.PHONE, Role.GIVEN_NAME),
    (Role.TEXT, Role.PEOPLE),
    (Role.TEXT, Role.YEAR),
)
# Never what a household shares: there, other people would be taken for the same.
_LESSONS = ((Role.GIVEN_NAME, Role.SURNAME), (Role.GIVEN_NAME, Role.BIRTH_DATE), (Role.SURNAME, Role.BIRTH_DATE))
_TEACHERS = (Role.NATIONAL_ID, Role.EMAIL, Role.BIRTH_DATE)
# What the certain rules are taken to find of all pairs that are the same.
CERTAIN_RECALL = 0.7


@dataclass(frozen=True, slots=True)
class Rule:
    """Pairs whose `keys` are equal, the first's column beside the second's. `exploded`: lists of which one word counts."""

    keys: tuple[tuple[str, str], ...]
    exploded: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The condition over `l` and `r`."""
        return " AND ".join(f"l.{mine} = r.{other}" for mine, other in self.keys)


def equal(*columns: str) -> Rule:
    """Pairs that agree in all of these."""
    return Rule(tuple((column, column) for column in columns))


def candidates(columns: Mapping[str, Role]) -> Iterator[Rule]:
    """The rules, the most telling first."""
    yield from (equal(column) for single in _SINGLE for column, role in columns.items() if role is single)
    yield from _all_of(columns, _PAIRS)
    given, family = Role.GIVEN_NAME.value, Role.SURNAME.value
    if given in columns and family in columns:
        yield Rule(((given, family), (family, given)))
    for column, role in columns.items():
        if role in LISTS:
            keys = f"{column}_keys"
            yield Rule(((keys, keys),), (keys,))


def certain(columns: Mapping[str, Role]) -> list[Rule]:
    """Rules that hardly ever hold for two that are not the same."""
    return list(_all_of(columns, _CERTAIN))


def lessons(columns: Mapping[str, Role]) -> list[Rule]:
    """Where the shares of the levels are learnt, one rule after the other; each teaches the columns that it does not name."""
    single = [equal(column) for column, role in columns.items() if role in (*_TEACHERS, *LISTS)]
    return [*single, *_all_of(columns, _LESSONS)]


def _all_of(columns: Mapping[str, Role], wanted: Sequence[Sequence[Role]]) -> Iterator[Rule]:
    for each in wanted:
        if all(role.value in columns for role in each):
            yield equal(*(role.value for role in each))
