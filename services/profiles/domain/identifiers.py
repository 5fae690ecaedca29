"""Identifiers of people by kind: where calls name them, how they are written, and which values are nobody's."""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Why: what is inside decoded JSON has no type.

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
import phonenumbers

from services.profiles.domain.identity import Namespace

Json: TypeAlias = Any
Identifier: TypeAlias = tuple[Namespace, str]

MAX_LENGTH: Final = 255
MAX_FOUND: Final = 20
MAX_BLOCKED: Final = 1_000
# Those that a tenant may let join profiles; user ids and anonymous ids always do.
OPTIONAL: Final = (Namespace.EMAIL, Namespace.PHONE, Namespace.DEVICE_ID, Namespace.EXTERNAL_ID)

# What programs send where they know nobody, in any case of letters.
_NOBODY: Final = frozenset(
    {
        "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "unknown", "anonymous", "guest", "-1", "[object object]",
        "test@test.com", "test@test.test", "email@email.com", "none@none.com", "null@null.com", "no@email.com", "a@a.com",
    }
)  # fmt: skip
_ZEROS: Final = re.compile(r"[0\-]+")
# A key that was held down. Digits may be a number of a real customer, but no telephone's.
_HELD: Final = re.compile(r"(.)\1{3,}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a tenant's people decided: which kinds join, and which nodes are nobody's besides."""

    joining: frozenset[Namespace] = frozenset()
    blocked: frozenset[UUID] = frozenset()


class _Stored(msgspec.Struct):
    """Of blocked values only their keyed hashes, so that nothing personal is kept in plain."""

    joining: list[str] = []
    blocked: list[UUID] = []


def rules_text(rules: Rules) -> bytes:
    """As they are stored, JSON."""
    return msgspec.json.encode(_Stored(sorted(each.label for each in rules.joining), sorted(rules.blocked)))


def rules_of(stored: bytes | None) -> Rules:
    """From what is stored; None: nobody has decided anything."""
    if stored is None:
        return Rules()
    said = msgspec.json.decode(stored, type=_Stored)
    return Rules(frozenset(each for each in OPTIONAL if each.label in said.joining), frozenset(said.blocked))


@dataclass(slots=True)
class KeptRules:
    """Rules that may change while they are used."""

    now: Rules = field(default_factory=Rules)


@lru_cache(16_384)
def is_nobodys(namespace: Namespace, value: str) -> bool:
    """Whether no person is meant by this value, whoever sends it."""
    plain = value.strip().casefold()
    if namespace is Namespace.EXTERNAL_ID:
        plain = plain.partition(":")[2].strip()
    if plain in _NOBODY or _ZEROS.fullmatch(plain):
        return True
    return _HELD.fullmatch(plain) is not None and not (plain.isdigit() and namespace is Namespace.USER_ID)


def normalised(namespace: Namespace, value: Json, country: str = "") -> str:
    """As it is compared; "" for what is none of its kind. User ids and anonymous ids stay as they are.

    `country`: two letters, for a telephone number without its country's prefix.
    """
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not 0 < len(text) <= MAX_LENGTH or "\x00" in text:
        return ""
    if namespace is Namespace.EMAIL:
        text = unicodedata.normalize("NFC", text.strip()).lower()
        return text if _EMAIL.fullmatch(text) else ""
    if namespace is Namespace.PHONE:
        return _e164(text.strip(), country)
    return text if namespace in (Namespace.USER_ID, Namespace.ANONYMOUS_ID) else text.strip()


def _e164(text: str, country: str) -> str:
    if not text.startswith("+") and not _COUNTRY.fullmatch(country):
        return ""  # it may be anybody's, in any country
    try:
        number = phonenumbers.parse(text, country.upper() or None)
    except phonenumbers.NumberParseException:
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if _is_real(number) else ""


def _is_real(number: phonenumbers.PhoneNumber) -> bool:
    return phonenumbers.is_valid_number(number) and not number.extension


def found_in(traits: Mapping[str, Json], context: Mapping[str, Json]) -> list[Identifier]:
    """What a call names besides user id and anonymous id, each once and as it is compared, without what is nobody's."""
    found = dict.fromkeys(
        (namespace, value) for namespace, value in _named(traits, context) if value and not is_nobodys(namespace, value)
    )
    return list(found)[:MAX_FOUND]


def _named(traits: Mapping[str, Json], context: Mapping[str, Json]) -> Iterator[Identifier]:
    beside = _object(context.get("traits"))
    country = _country(traits) or _country(beside) or _region(context.get("locale"))
    for said in (traits, beside):
        yield Namespace.EMAIL, normalised(Namespace.EMAIL, said.get("email"))
        yield Namespace.PHONE, normalised(Namespace.PHONE, said.get("phone"), country)
    device = _object(context.get("device"))
    yield Namespace.DEVICE_ID, normalised(Namespace.DEVICE_ID, device.get("id"))
    if device.get("adTrackingEnabled") is not False:
        yield Namespace.DEVICE_ID, normalised(Namespace.DEVICE_ID, device.get("advertisingId"))
    external = context.get("externalIds")
    for each in external[:MAX_FOUND] if isinstance(external, list) else ():
        yield _external(_object(each), country)


_TYPES: Final = {"email": Namespace.EMAIL, "phone": Namespace.PHONE, "device_id": Namespace.DEVICE_ID}


def _external(said: Mapping[str, Json], country: str) -> Identifier:
    """An entry of context.externalIds; those of other collections than users, or encoded ones, are nobody's here."""
    type_ = said.get("type")
    if not isinstance(type_, str) or said.get("collection", "users") != "users":
        return Namespace.EXTERNAL_ID, ""
    if said.get("encoding") not in (None, "", "none"):
        return Namespace.EXTERNAL_ID, ""
    namespace = _TYPES.get(type_, Namespace.EXTERNAL_ID)
    value = normalised(namespace, said.get("id"), country)
    if namespace is Namespace.EXTERNAL_ID and value:
        value = f"{type_.strip()}:{value}"
    return namespace, value


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _country(traits: Mapping[str, Json]) -> str:
    for value in (traits.get("country"), _object(traits.get("address")).get("country"), traits.get("countryCode")):
        if isinstance(value, str) and _COUNTRY.fullmatch(value):
            return value
    return ""


def _region(locale: Json) -> str:
    """DE of de-DE; "" where a language is all that is said."""
    if not isinstance(locale, str):
        return ""
    last = re.split("[-_]", locale)[-1]
    return last if last.isupper() and _COUNTRY.fullmatch(last) else ""


def told_in(secret: Mapping[str, Json]) -> list[Identifier]:
    """All identifiers that an event's personal part holds, user id and anonymous id first."""
    named = [
        (namespace, value)
        for namespace, key in ((Namespace.USER_ID, "userId"), (Namespace.ANONYMOUS_ID, "anonymousId"))
        if isinstance(value := secret.get(key), str)
    ]
    return [*named, *found_in(_object(secret.get("traits")), _object(secret.get("context")))]
