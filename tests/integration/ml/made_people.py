"""People who never were, with typing errors that are known: another country, households, other missing rates than FEBRL has."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from ml.matching.columns import Role
from ml.matching.engine import Source

ROLES: Mapping[str, Role] = {
    "vorname": Role.GIVEN_NAME,
    "nachname": Role.SURNAME,
    "geboren": Role.BIRTH_DATE,
    "strasse": Role.STREET,
    "nummer": Role.STREET_NUMBER,
    "ort": Role.CITY,
    "plz": Role.POSTCODE,
    "telefon": Role.PHONE,
    "mail": Role.EMAIL,
}


def split(text: str) -> list[str]:
    """At its commas."""
    return text.split(",")


_GIVEN = split(
    "anna,ben,clara,david,emma,felix,greta,hans,ida,jonas,karl,lena,max,nina,otto,paula,ruth,simon,tim,ute,vera,wim,zoe"
)
_PARTS = ["mei", "sch", "ber", "hof", "bau", "win", "len", "fis", "web", "kra", "ste", "leh", "rot", "bro", "wei", "neu"]
_ENDS = ["er", "mann", "ing", "ler", "ner", "stein", "bach", "feld"]
_STREETS = ["haupt", "bahnhof", "garten", "dorf", "schul", "berg", "kirch", "wald", "ring", "linden", "birken", "rosen"]
_TOWNS = ["altdorf", "neustadt", "seeheim", "birkenau", "waldhof", "rosenthal", "lindau", "bergen", "hofheim", "talheim"]


@dataclass(frozen=True, slots=True)
class Shape:
    """`share`: of people with a second record. `typos`: errors in a second record. `missing`: share of values not there.
    `household`: share of people who share surname, address and phone with another."""

    people: int = 1500
    share: float = 0.4
    typos: int = 2
    missing: float = 0.1
    household: float = 0.3
    seed: int = 1


@dataclass(slots=True)
class Made:
    """Rows by column, and the entity of each."""

    rows: list[dict[str, str | None]] = field(default_factory=list)
    entities: list[int] = field(default_factory=list)

    def source(self, rows: Sequence[int] | None = None, without: Sequence[str] = ()) -> Source:
        """All rows or some, with ids that say nothing."""
        chosen = range(len(self.rows)) if rows is None else rows
        return Source(list(chosen), {name: [self.rows[row][name] for row in chosen] for name in ROLES if name not in without})

    def true_pairs(self, rows: Sequence[int] | None = None) -> set[frozenset[int]]:
        """Rows of one entity."""
        of: dict[int, list[int]] = {}
        for row in range(len(self.rows)) if rows is None else rows:
            of.setdefault(self.entities[row], []).append(row)
        return {frozenset((one, other)) for each in of.values() for one in each for other in each if one < other}


def made_people(shape: Shape) -> Made:
    """The same for the same shape."""
    chance = random.Random(shape.seed)
    made = Made()
    people: list[dict[str, str]] = []
    for number in range(shape.people):
        person = _person(chance, number)
        if people and chance.random() < shape.household:
            relative = chance.choice(people[-20:])
            person |= {name: relative[name] for name in ("nachname", "strasse", "nummer", "ort", "plz", "telefon")}
        people.append(person)
    for entity, person in enumerate(people):
        _add(made, chance, shape, entity, dict(person))
        if chance.random() < shape.share:
            _add(made, chance, shape, entity, _mistyped(chance, person, shape.typos))
    return made


def _add(made: Made, chance: random.Random, shape: Shape, entity: int, person: dict[str, str]) -> None:
    made.rows.append({name: None if chance.random() < shape.missing else value for name, value in person.items()})
    made.entities.append(entity)


def _person(chance: random.Random, number: int) -> dict[str, str]:
    given, family = chance.choice(_GIVEN), "".join(chance.choices(_PARTS, k=2)) + chance.choice(_ENDS)
    born = date(1935, 1, 1) + timedelta(days=chance.randrange(365 * 72))
    return {
        "vorname": given,
        "nachname": family,
        "geboren": born.strftime("%d.%m.%Y"),
        "strasse": f"{chance.choice(_STREETS)}{chance.choice(['strasse', 'weg', 'gasse'])}",
        "nummer": str(chance.randrange(1, 120)),
        "ort": chance.choice(_TOWNS),
        "plz": str(chance.randrange(10_000, 10_400)),
        "telefon": f"+49 69 {chance.randrange(10**6, 10**7)}",
        "mail": f"{given}.{family}{number}@{chance.choice(['post', 'web', 'mail'])}.example",
    }


def _mistyped(chance: random.Random, person: Mapping[str, str], errors: int) -> dict[str, str]:
    again = dict(person)
    kind = chance.random()
    if kind < 0.1:
        again["vorname"], again["nachname"] = again["nachname"], again["vorname"]
    elif kind < 0.2:
        day, month, year = again["geboren"].split(".")
        if int(day) <= 12:
            again["geboren"] = f"{month}.{day}.{year}"
    elif kind < 0.35:
        moved = _person(chance, 0)
        again |= {name: moved[name] for name in ("strasse", "nummer", "ort", "plz")}
    elif kind < 0.5:
        again |= {name: _person(chance, chance.randrange(10**6))[name] for name in ("telefon", "mail")}
    for _ in range(errors):
        name = chance.choice([each for each in again if again[each]])
        again[name] = _typo(chance, again[name])
    return again


def _typo(chance: random.Random, value: str) -> str:
    at = chance.randrange(len(value))
    match chance.randrange(4):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + chance.choice("0123456789" if value[at].isdigit() else "etanirs") + value[at + 1 :]
        case 2:
            return value[:at] + value[at] + value[at:]
        case _:
            return value[:at] + value[at + 1 : at + 2] + value[at] + value[at + 2 :]
