"""What people allowed, and what follows from it.

A record says something of a purpose, for one channel or for all of them ("any"). What was said last counts; of two at one
instant the stricter. What is "unknown" counts as never said.

    a channel's own word        wins over what was said for all channels,
                                but a grant ends once all channels were denied: who takes everything back lists nothing
    nothing said                the purpose's legal basis decides: consent must be given, the others hold until denied
    nothing said, strict        SMS, WhatsApp, automated calls and fax need a grant for that very channel, whatever the basis

Strict channels: Directive 2002/58/EC, Art. 13(1), wants prior consent for automated calls, fax and electronic mail, which
Art. 2(h) extends to text messages; 47 U.S.C. 227(b)(1) wants it for automated calls and texts to mobile phones. For e-mail
Art. 13(2) lets a shop write to its own customers about similar products until they object: a legitimate interest. Calls by
people and post are left to objection where the law does not say otherwise (Art. 13(3)).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain.classify import is_public_text

# Segment's own name for it, and the one that its older clients send.
CALLS: Final = frozenset({"Segment Consent Preference Updated", "Segment Consent Preference"})
FACT: Final = "Consent Recorded"
MAX_PURPOSE: Final = 64
MAX_CATEGORIES: Final = 50
_PURPOSE: Final = re.compile(rf"[^\x00-\x1f\x7f]{{1,{MAX_PURPOSE}}}")
# A label and no prose: what people write of people does not belong here.
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9._:/-]{0,63}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_FIELD: Final = "context.consent.categoryPreferences"


class Channel(StrEnum):
    """How somebody is reached. ANY stands for all of them."""

    ANY = "any"
    EMAIL = "email"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    AUTOMATED_CALL = "automated_call"
    FAX = "fax"
    PHONE = "phone"
    POST = "post"
    PUSH = "push"
    IN_APP = "in_app"
    WEB = "web"
    ADS = "ads"


STRICT: Final = frozenset({Channel.SMS, Channel.WHATSAPP, Channel.AUTOMATED_CALL, Channel.FAX})


class State(StrEnum):
    """What was said. UNKNOWN takes back what was said before."""

    GRANTED = "granted"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """What a purpose stands on (GDPR, Art. 6(1) a, f and b)."""

    CONSENT = "consent"
    LEGITIMATE_INTEREST = "legitimate_interest"
    CONTRACT = "contract"


class Ground(StrEnum):
    """What decided."""

    CHANNEL = "channel"
    ANY_CHANNEL = "any_channel"
    LEGAL_BASIS = "legal_basis"
    CHANNEL_DEFAULT = "channel_default"


_STRICTNESS: Final[Mapping[State, int]] = {State.GRANTED: 0, State.UNKNOWN: 1, State.DENIED: 2}


@dataclass(frozen=True, slots=True)
class Record:
    """Something that was said. `ts`: when; `recorded`: when we were told."""

    purpose: str
    channel: Channel
    state: State
    source: str
    proof_version: str
    ts: datetime
    recorded: datetime
    event_id: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and why. `record` is what was said, where that decided."""

    is_allowed: bool
    state: State
    ground: Ground
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What somebody is to be read for."""

    purpose: str
    channel: Channel = Channel.ANY


def newest(records: Iterable[Record], channel: Channel) -> Record | None:
    """What was said last for this very channel, in whatever order it comes; None where nothing was."""
    said = [each for each in records if each.channel is channel]
    return max(said, key=lambda each: (each.ts, _STRICTNESS[each.state], each.event_id), default=None)


def decide(records: Sequence[Record], basis: Basis | None, channel: Channel) -> Decision:
    """On records of one purpose and one person. `basis` None, a purpose that is not declared: as a legitimate interest."""
    wide = _said(newest(records, Channel.ANY))
    own = _said(newest(records, channel)) if channel is not Channel.ANY else None
    if own is not None and not (own.state is State.GRANTED and _all_denied_since(records, own.ts)):
        return Decision(own.state is State.GRANTED, own.state, Ground.CHANNEL, own)
    if wide is not None and (wide.state is State.DENIED or channel not in STRICT):
        return Decision(wide.state is State.GRANTED, wide.state, Ground.ANY_CHANNEL, wide)
    if channel in STRICT:
        return Decision(is_allowed=False, state=State.UNKNOWN, ground=Ground.CHANNEL_DEFAULT)
    return Decision(basis is not Basis.CONSENT, State.UNKNOWN, Ground.LEGAL_BASIS)


def _all_denied_since(records: Sequence[Record], ts: datetime) -> bool:
    return any(each.channel is Channel.ANY and each.state is State.DENIED and each.ts >= ts for each in records)


def _said(record: Record | None) -> Record | None:
    return None if record is None or record.state is State.UNKNOWN else record


def purpose_of(text: str, field: str) -> str:
    """Raises InvalidArgument."""
    if not _PURPOSE.fullmatch(text) or not is_public_text(text):
        raise InvalidArgument(f"a purpose has 1 to {MAX_PURPOSE} characters, and holds no address", field=field)
    return text


def channel_of(text: str, field: str) -> Channel:
    """Empty: any. Raises InvalidArgument."""
    try:
        return Channel(text or Channel.ANY)
    except ValueError:
        raise InvalidArgument(f"a channel is one of {', '.join(Channel)}", field=field) from None


def check_origin(source: str, proof_version: str) -> None:
    """Raises InvalidArgument."""
    if not _LABEL.fullmatch(source):
        raise InvalidArgument(
            "a source is a label of where it was said, like checkout or app/settings: up to 64 letters, digits and . _ : / -",
            field="source",
        )
    if proof_version and not _VERSION.fullmatch(proof_version):
        raise InvalidArgument(
            "a proof version names the text that was shown, like terms-2026-03: up to 64 letters, digits and . _ : / -",
            field="proof_version",
        )


class _Preferences(msgspec.Struct, rename="camel"):
    category_preferences: dict[str, bool]


def preferences_of(context: Mapping[str, Any] | None) -> dict[str, bool]:
    """What a call of CALLS says, by category. Raises InvalidArgument: what cannot be read must not pass for consent."""
    try:
        found = msgspec.convert((context or {}).get("consent"), _Preferences).category_preferences
    except msgspec.ValidationError:
        raise InvalidArgument(
            f'the event needs {_FIELD}, categories with true or false, like {{"Advertising": true}}',
            reason=Reason.MISSING_FIELD,
            field=_FIELD,
        ) from None
    if len(found) > MAX_CATEGORIES:
        raise InvalidArgument(f"an event says at most {MAX_CATEGORIES} preferences", field=_FIELD)
    for category in found:
        purpose_of(category, _FIELD)
    return found


class Said(msgspec.Struct, rename="camel"):
    """The properties of a FACT."""

    purpose: str
    channel: Channel
    state: State
    source: str
    proof_version: str


def said_in_fact(properties: bytes) -> list[Said]:
    """Raises msgspec.MsgspecError where the properties are none of ours."""
    return [msgspec.json.decode(properties, type=Said)]


def said_in_call(preferences: Mapping[str, bool], source: str) -> list[Said]:
    """Segment's preferences count for all channels."""
    return [
        Said(purpose, Channel.ANY, State.GRANTED if is_granted else State.DENIED, source, "")
        for purpose, is_granted in preferences.items()
    ]
