"""From a call to the event that the log will hold: checked, pseudonymous, split into what is public and what is sealed."""

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from rapport.profiles.v1 import event_pb2

from chassis.errors import InvalidArgument, Reason
from services.profiles.domain import classify, consent, validate
from services.profiles.domain.clock import ClockKind, check_bounds, event_time, moment_of, parse_time
from services.profiles.domain.identifiers import found_in, is_nobodys
from services.profiles.domain.identity import Namespace
from services.profiles.domain.refs import profile_id as parse_profile_id
from services.profiles.jsontext import dumps, loads
from services.profiles.segment import Call
from services.profiles.tenancy import Tenant
from services.profiles.vault import Node

MAX_SHARED_CONTEXT_BYTES: Final = 8 * 1024
MAX_FACT_ID_LENGTH: Final = 512
# Before the message id of a call that came without.
DERIVED: Final = "derived-"
_MAX_LABEL_LENGTH: Final = 32
_NUL: Final = b"\\u0000"
_SCOPED: Final = re.compile(r"@[a-z0-9-]{1,40}/[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Origin:
    """What all events of one body share. `type` is empty where each event names its own."""

    type: str
    received_us: int
    received: datetime
    sent_us: int | None = None
    context: dict[str, Any] | None = None


@dataclass(slots=True)
class Draft:
    """An event before it is sealed: `event.sealed` is empty, `personal` is what belongs there."""

    message_id: str
    event: event_pb2.Event
    node_id: UUID | None
    personal: bytes
    received: datetime


@dataclass(frozen=True, slots=True)
class Fact:
    """What a service records; see profiles.proto. `ts_us` None: the tenant's present."""

    message_id: str
    profile_id: str
    name: str
    ts_us: int | None
    properties: bytes
    personal: bytes
    source: str
    traceparent: str = ""


@dataclass(slots=True)
class _Ids:
    """The identifiers of a call as texts, "" where there is none."""

    message_id: str
    user_id: str
    anonymous_id: str
    previous_id: str
    group_id: str

    @staticmethod
    def of(call: Call) -> "_Ids":
        return _Ids(
            validate.identifier(call.message_id, "messageId"),
            validate.identifier(call.user_id, "userId"),
            validate.identifier(call.anonymous_id, "anonymousId"),
            validate.identifier(call.previous_id, "previousId"),
            validate.identifier(call.group_id, "groupId"),
        )


def origin_of(type_: str, received_us: int, *, sent_at: str | None = None, context: dict[str, Any] | None = None) -> Origin:
    """Raises InvalidArgument where what a batch says of all its events cannot be used."""
    if context is not None:
        if len(dumps(context)) > MAX_SHARED_CONTEXT_BYTES:
            size = MAX_SHARED_CONTEXT_BYTES // 1024
            raise InvalidArgument(f"a batch's context is at most {size} KB", reason=Reason.BODY_TOO_LARGE, field="context")
        validate.check_shape({"context": context})
        validate.check_texts({"context": context})
    sent_us = parse_time(sent_at, "sentAt") if sent_at else None
    return Origin(type_, received_us, moment_of(received_us), sent_us, context)


def fingerprint(tenant_id: str, raw: bytes, received_us: int, position: int) -> bytes:
    """16 bytes that a repeat of the same call has again, and no other event of the same body."""
    return sha256(b"%s\0%d\0%d\0%s" % (tenant_id.encode(), received_us, position, raw)).digest()[:16]


def draft_of_call(
    call: Call, raw: bytes, origin: Origin, tenant: Tenant, position: int, declared: classify.Classes = classify.UNDECLARED
) -> Draft:
    """Raises InvalidArgument. A missing messageId is derived from the call itself, so that a repeat is a duplicate.

    `declared`: what the tracking plan says of the call's fields.
    """
    type_ = origin.type or call.type or ""
    if type_ not in validate.TYPES:
        raise InvalidArgument(
            "type is none of identify, track, page, screen, group, alias", reason=Reason.UNKNOWN_EVENT_TYPE, field="type"
        )
    ids = _Ids.of(call)
    validate.check_identity(
        type_, user_id=ids.user_id, anonymous_id=ids.anonymous_id, previous_id=ids.previous_id, group_id=ids.group_id
    )
    name = _name(call, type_)
    fields = (call.traits if type_ in _WITH_TRAITS else call.properties) or {}
    _check_parts(call, raw, name, fields)
    sent_us = parse_time(call.sent_at, "sentAt") if call.sent_at else origin.sent_us
    ts_us = event_time(origin.received_us, timestamp=call.timestamp, original=call.original_timestamp, sent_us=sent_us)
    if not ids.message_id:
        ids.message_id = DERIVED + fingerprint(tenant.tenant_id, raw, origin.received_us, position).hex()
    parted = classify.split(fields, classify.kind_of(type_, name), declared) if fields else ({}, {})
    return _assemble(call, type_, name, parted, ids, origin, tenant, ts_us)


_PREVIOUS: Final = (Namespace.USER_ID, Namespace.ANONYMOUS_ID)
_WITH_TRAITS: Final = frozenset({"identify", "group"})
_NAMED: Final = frozenset({"track", "page", "screen"})


def _name(call: Call, type_: str) -> str:
    if type_ not in _NAMED:
        return ""
    name = (call.event if type_ == "track" else call.name) or ""
    validate.check_name(type_, name)
    return name


def _check_parts(call: Call, raw: bytes, name: str, fields: dict[str, Any]) -> None:
    """Counting colons and brackets first spares nearly every event the walk through it."""
    if raw.count(b":") > validate.MAX_MEMBERS or raw.count(b"{") + raw.count(b"[") > validate.MAX_DEPTH:
        validate.check_shape({"properties": call.properties, "traits": call.traits, "context": call.context})
    if _NUL in raw:
        validate.check_texts(msgspec.to_builtins(call))
    if name:
        validate.check_commerce(name, fields)


def _assemble(
    call: Call,
    type_: str,
    name: str,
    parted: tuple[dict[str, Any], dict[str, Any]],
    ids: _Ids,
    origin: Origin,
    tenant: Tenant,
    ts_us: int,
) -> Draft:
    public, personal = parted
    if call.category and type_ == "page" and "category" not in public and "category" not in personal:
        (public if classify.is_public_text(call.category) else personal)["category"] = call.category
    secret = _identifiers(ids)
    if ids.group_id:
        (public if type_ == "group" and classify.is_public_text(ids.group_id) else secret)["groupId"] = ids.group_id
    if name and not classify.is_public_text(name, validate.MAX_NAME_LENGTH if type_ == "track" else classify.MAX_PUBLIC_TEXT):
        secret["name"], name = name, ""
    if personal:
        secret["traits" if type_ in _WITH_TRAITS else "properties"] = personal
    context = {**origin.context, **(call.context or {})} if origin.context else call.context
    channel = source = ""
    if context:
        secret["context"] = context
        channel, source = _label(context.get("channel")), _library(context.get("library"))
    channel = channel or _label(call.channel)
    (node_id, node_text), *linked = _nodes(type_, ids, tenant)
    joining, finding = _found(type_, call.traits if type_ == "identify" else None, context, tenant)
    linked += [node for node in joining if node not in linked]
    event = event_pb2.Event(
        event_id=tenant.keys.event_id(ids.message_id),
        type=type_,
        name=name,
        ts_us=ts_us,
        known_us=ts_us if tenant.clock is ClockKind.EVENTS else origin.received_us,
        received_us=origin.received_us,
        node_id=node_text,
        linked_node_ids=[text for _, text in linked],
        properties=dumps(public) if public else b"",
        source=source or channel,
        channel=channel,
        found_ids=[text for _, text in finding],
    )
    if ids.group_id and type_ == "group":
        event.account_id = str(tenant.keys.account_id(ids.group_id))
    if type_ == "track" and name in consent.CALLS:
        # Contexts are sealed, and what somebody allows is asked at every read.
        event.preferences.update(consent.preferences_of(context))
    if personal and type_ == "identify":
        event.traits_digest = tenant.keys.traits_digest(node_id, dumps(personal))
    return Draft(ids.message_id, event, node_id, dumps(secret), origin.received)


def _identifiers(ids: _Ids) -> dict[str, Any]:
    """The identifiers of people, by Segment's names."""
    named: dict[str, Any] = {}
    if ids.user_id:
        named["userId"] = ids.user_id
    if ids.anonymous_id:
        named["anonymousId"] = ids.anonymous_id
    if ids.previous_id:
        named["previousId"] = ids.previous_id
    return named


def _nodes(type_: str, ids: _Ids, tenant: Tenant) -> list[Node]:
    """The nodes that a call names, the one that it belongs to first. Raises InvalidArgument where all are nobody's.

    An alias' previousId may be of either kind, and nothing in the call says which: it is linked as both.
    """
    named = ((Namespace.USER_ID, ids.user_id), (Namespace.ANONYMOUS_ID, ids.anonymous_id))
    nodes = [node for namespace, value in named if value and (node := _somebody(namespace, value, tenant))]
    if not nodes:
        raise InvalidArgument(
            "the userId and anonymousId are values that are nobody's, like null or 0; leave out what is not known",
            reason=Reason.BLOCKED_IDENTIFIER,
            field="userId" if ids.user_id else "anonymousId",
        )
    if type_ == "alias" and not is_nobodys(Namespace.ANONYMOUS_ID, ids.previous_id):
        previous = [tenant.keys.node(namespace, ids.previous_id) for namespace in _PREVIOUS]
        nodes += [node for node in previous if node not in nodes]
    return nodes


def _somebody(namespace: Namespace, value: str, tenant: Tenant) -> Node | None:
    """None for a value that is nobody's."""
    node = tenant.keys.node(namespace, value)
    return None if is_nobodys(namespace, value) or node[0] in tenant.rules.now.blocked else node


def _found(
    type_: str, traits: dict[str, Any] | None, context: dict[str, Any] | None, tenant: Tenant
) -> tuple[list[Node], list[Node]]:
    """(other identifiers that join, those that only find), of the kinds that the tenant's rules say.

    Finding is kept up by identify calls alone: others say the same again and again.
    """
    rules = tenant.rules.now
    if type_ != "identify" and not rules.joining:
        return [], []
    joining: list[Node] = []
    finding: list[Node] = []
    for namespace, value in found_in(traits or {}, context or {}) if traits or context else ():
        node = tenant.keys.node(namespace, value)
        if node[0] in rules.blocked:
            continue
        if namespace in rules.joining:
            joining.append(node)
        elif type_ == "identify":
            finding.append(node)
    return joining, finding


def _label(value: Any) -> str:
    """A short harmless word for where something comes from; "" for anything else, and for what only services may say."""
    if not isinstance(value, str) or "\x00" in value or not classify.is_public_text(value, _MAX_LABEL_LENGTH):
        return ""
    return "" if value.startswith(validate.FACT_SOURCE) else value


def _library(value: Any) -> str:
    """The client library's name; those of npm may have a scope, "@segment/analytics-node", which is no address."""
    name = value.get("name") if isinstance(value, dict) else ""
    return name if isinstance(name, str) and _SCOPED.fullmatch(name) else _label(name)


def draft_of_fact(fact: Fact, tenant: Tenant, *, now_us: int, received_us: int) -> Draft:
    """Raises InvalidArgument. `now_us` is the tenant's present."""
    if not 0 < len(fact.message_id) <= MAX_FACT_ID_LENGTH:
        raise InvalidArgument(f"a fact's message_id has 1 to {MAX_FACT_ID_LENGTH} characters", field="message_id")
    if not 0 < len(fact.name) <= validate.MAX_NAME_LENGTH or "\x00" in fact.name:
        raise InvalidArgument(f"a fact's name has 1 to {validate.MAX_NAME_LENGTH} characters", field="name")
    if not fact.source.startswith(validate.FACT_SOURCE) or len(fact.source) > classify.MAX_PUBLIC_TEXT:
        raise InvalidArgument(f"a fact's source begins with {validate.FACT_SOURCE}", field="source")
    node_id = parse_profile_id(fact.profile_id) if fact.profile_id else None
    if fact.personal and node_id is None:
        raise InvalidArgument("what is personal needs a profile_id", reason=Reason.MISSING_FIELD, field="profile_id")
    for field, text in (("properties", fact.properties), ("personal", fact.personal)):
        _check_fact_json(text, field)
    ts_us = now_us if fact.ts_us is None else fact.ts_us
    check_bounds(ts_us, max(received_us, now_us))
    event = event_pb2.Event(
        event_id=tenant.keys.fact_id(fact.message_id),
        type="track",
        name=fact.name,
        ts_us=ts_us,
        known_us=ts_us if tenant.clock is ClockKind.EVENTS else received_us,
        received_us=received_us,
        node_id=str(node_id) if node_id else "",
        properties=fact.properties,
        source=fact.source,
        traceparent=fact.traceparent,
    )
    return Draft(fact.message_id, event, node_id, fact.personal, moment_of(received_us))


def _check_fact_json(text: bytes, field: str) -> None:
    if not text:
        return
    if len(text) > validate.MAX_EVENT_BYTES:
        size = validate.MAX_EVENT_BYTES // 1024
        raise InvalidArgument(f"a fact's {field} are at most {size} KB", reason=Reason.EVENT_TOO_LARGE, field=field)
    try:
        value = loads(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArgument(f"a fact's {field} are no JSON object", reason=Reason.MALFORMED_JSON, field=field) from None
    validate.check_shape({field: value})
    if _NUL in text:
        validate.check_texts({field: value})
