"""How two values of a kind are compared: levels from "the same" down to "different", with what is taken for true before
anything is learnt. Written for DuckDB; `l` and `r` stand for the two records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ml.matching.columns import LISTS, Role

_SIMILAR: Final = 0.92
_ALIKE: Final = 0.8


@dataclass(frozen=True, slots=True)
class Level:
    """`holds`: SQL. `share`: how many of the pairs that are the same are expected here. `rarity`: the column whose rare
    values say more than its frequent ones."""

    name: str
    holds: str
    share: float
    rarity: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`unknown`: SQL of when nothing can be said. The last level is what is left."""

    name: str
    unknown: str
    levels: tuple[Level, ...]

    def splink(self) -> dict[str, Any]:
        """As Splink's settings have it."""
        null = {"sql_condition": self.unknown, "label_for_charts": "unknown", "is_null_level": True}
        return {"output_column_name": self.name, "comparison_levels": [null, *map(_splink_level, self.levels)]}


def _splink_level(level: Level) -> dict[str, Any]:
    wanted = {"sql_condition": level.holds, "label_for_charts": level.name, "m_probability": level.share}
    return wanted | ({"tf_adjustment_column": level.rarity} if level.rarity else {})


def comparisons(columns: Mapping[str, Role]) -> Iterator[Comparison]:
    """One for each column, but one for the whole of an address: who moves changes all of it, who shares it shares all."""
    for column, role in columns.items():
        match role:
            case Role.GIVEN_NAME | Role.SURNAME:
                yield _name(column, columns)
            case Role.BIRTH_DATE:
                yield _birth_date(column)
            case Role.NATIONAL_ID | Role.PHONE:
                yield _number(column)
            case Role.EMAIL:
                yield _email(column)
            case Role.YEAR:
                yield _year(column)
            case Role.CATEGORY:
                yield _category(column)
            case _ if role in LISTS:
                yield _words(column, role)
            case _:
                continue
    if address := _address(columns):
        yield address


def _unknown(column: str) -> str:
    return f"{column}_l IS NULL OR {column}_r IS NULL"


def _same(column: str) -> str:
    return f"{column}_l = {column}_r"


def _edits(column: str, most: int) -> str:
    return f"damerau_levenshtein({column}_l, {column}_r) <= {most}"


def _near(column: str, least: float) -> str:
    return f"jaro_winkler_similarity({column}_l, {column}_r) >= {least}"


def _name(column: str, columns: Mapping[str, Role]) -> Comparison:
    levels = [Level("same", _same(column), 0.8, column)]
    unknown = _unknown(column)
    given, family = Role.GIVEN_NAME.value, Role.SURNAME.value
    if given in columns and family in columns:
        crossed = " AND ".join(
            f"jaro_winkler_similarity({one}_l, {other}_r) >= {_SIMILAR}" for one, other in ((given, family), (family, given))
        )
        if column == given:
            levels.append(Level("given name and surname swapped", crossed, 0.02))
        else:
            # Said once, by the given name.
            unknown += f" OR ({column}_l <> {column}_r AND {crossed})"
    levels += [Level("nearly the same", _near(column, _SIMILAR), 0.08), Level("alike", _near(column, _ALIKE), 0.05)]
    left = 1 - sum(level.share for level in levels)
    levels.append(Level("different", "ELSE", left))
    return Comparison(column, unknown, tuple(levels))


def _birth_date(column: str) -> Comparison:
    swapped = (
        f"substr({column}_l, 1, 4) = substr({column}_r, 1, 4) AND substr({column}_l, 5, 2) = substr({column}_r, 7, 2)"
        f" AND substr({column}_l, 7, 2) = substr({column}_r, 5, 2)"
    )
    return Comparison(
        column,
        _unknown(column),
        (
            Level("same", _same(column), 0.85),
            Level("day and month swapped", swapped, 0.02),
            Level("one digit differs, or two neighbours swapped", _edits(column, 1), 0.06),
            Level("two digits differ", _edits(column, 2), 0.03),
            Level("different", "ELSE", 0.04),
        ),
    )


def _number(column: str) -> Comparison:
    return Comparison(
        column,
        _unknown(column),
        (
            Level("same", _same(column), 0.85),
            Level("one character differs, or two neighbours swapped", _edits(column, 1), 0.06),
            Level("two characters differ", _edits(column, 2), 0.03),
            Level("different", "ELSE", 0.06),
        ),
    )


def _email(column: str) -> Comparison:
    return Comparison(
        column,
        _unknown(column),
        (
            Level("same", _same(column), 0.75),
            Level("same before the @", f"split_part({column}_l, '@', 1) = split_part({column}_r, '@', 1)", 0.07),
            Level("nearly the same", _near(column, 0.95), 0.08),
            Level("different", "ELSE", 0.1),
        ),
    )


def _year(column: str) -> Comparison:
    apart = f"abs(try_cast({column}_l AS INT) - try_cast({column}_r AS INT)) <= 1"
    return Comparison(
        column,
        _unknown(column),
        (Level("same", _same(column), 0.9), Level("one year apart", apart, 0.06), Level("different", "ELSE", 0.04)),
    )


def _category(column: str) -> Comparison:
    return Comparison(column, _unknown(column), (Level("same", _same(column), 0.8, column), Level("different", "ELSE", 0.2)))


def _words(column: str, role: Role) -> Comparison:
    both = f"len(list_intersect({column}_l, {column}_r))"
    shared = f"{both} / len(list_distinct(list_concat({column}_l, {column}_r)))"
    within = f"{both} / least(len({column}_l), len({column}_r))"
    levels = (
        Level("same words", _same(column), 0.7),
        Level("nearly all words shared", f"{shared} >= 0.8", 0.12),
        Level("one within the other" if role is Role.PEOPLE else "most words shared", f"{within} >= 0.8", 0.08),
        Level("half of the words shared", f"{within} >= 0.5", 0.06),
        Level("different", "ELSE", 0.04),
    )
    return Comparison(column, _unknown(column), levels)


def _address(columns: Mapping[str, Role]) -> Comparison | None:
    street, place = _street(columns), _place(columns)
    number = Role.STREET_NUMBER.value if Role.STREET_NUMBER.value in columns else ""
    if not street and not place:
        return None
    numbered = f"coalesce(({_same(number)}), false)" if number else "false"
    streets = f"coalesce(({street}), false)" if street else "false"
    places = f"coalesce(({place}), false)" if place else "false"
    levels: list[Level] = []
    if street and place:
        if number:
            levels.append(Level("street, number and place", f"{streets} AND {numbered} AND {places}", 0.65))
        levels.append(Level("street and place", f"{streets} AND {places}", 0.1))
    if street and number:
        levels.append(Level("street and number", f"{streets} AND {numbered}", 0.05))
    if place and number:
        levels.append(Level("number and place", f"{numbered} AND {places}", 0.05))
    if place:
        levels.append(Level("place", places, 0.05))
    if street:
        levels.append(Level("street", streets, 0.02))
    left = 1 - sum(level.share for level in levels)
    unknown = " AND ".join(f"({each}) IS NULL" for each in (street, place) if each)
    return Comparison("address", unknown, (*levels, Level("different", "ELSE", left)))


def _street(columns: Mapping[str, Role]) -> str:
    """Either line of the address against either."""
    lines = [role.value for role in (Role.STREET, Role.STREET_2) if role.value in columns]
    return " OR ".join(f"jaro_winkler_similarity({one}_l, {other}_r) >= {_SIMILAR}" for one in lines for other in lines)


def _place(columns: Mapping[str, Role]) -> str:
    found: list[str] = []
    if Role.POSTCODE.value in columns:
        found.append(_edits(Role.POSTCODE.value, 1))
    if Role.CITY.value in columns:
        found.append(_near(Role.CITY.value, _SIMILAR))
    return " OR ".join(found)
