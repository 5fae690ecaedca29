"""Every method of every service, found by reflection, with messages made up field by field, answers with a code of ours."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import strategies as st

from chassis import context
from tests.fuzz.conftest import Run
from tests.part import WHOLE, Keys, Part

F = FieldDescriptor
# Ours are all that a method may answer with; the others are grpc's own, for a bug.
BUGS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DATA_LOSS}
GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
MISSING = ("registry", "Prometheus", "metrics")
# Jobs of their own: once is enough.
SELDOM = {"ExportLog", "RebuildRecommendations", "Rebuild"}

known = ["user_id:ada", "anonymous_id:device", "churn", "order completed", "2", "00000000-0000-0000-0000-000000000001"]
texts = st.text(max_size=20) | st.sampled_from([*known, "", "\x00", "a" * 2_000, "{}", "[]", "null"])
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    F.TYPE_STRING: texts.map(lambda each: each.encode("utf-8", "ignore").decode()),
    F.TYPE_BYTES: st.binary(max_size=30) | st.sampled_from([b"{}", b'{"a":1}', b"[", b'{"type":"track","userId":"ada"}']),
    F.TYPE_BOOL: st.booleans(),
    F.TYPE_DOUBLE: st.floats() | st.sampled_from([0.0, 0.5, 1.0]),
    F.TYPE_FLOAT: st.floats(width=32),
}
SMALL = st.integers(0, 100)
for _kind, _low, _high in (
    (F.TYPE_INT32, -(2**31), 2**31 - 1), (F.TYPE_SINT32, -(2**31), 2**31 - 1), (F.TYPE_SFIXED32, -(2**31), 2**31 - 1),
    (F.TYPE_INT64, -(2**63), 2**63 - 1), (F.TYPE_SINT64, -(2**63), 2**63 - 1), (F.TYPE_SFIXED64, -(2**63), 2**63 - 1),
    (F.TYPE_UINT32, 0, 2**32 - 1), (F.TYPE_FIXED32, 0, 2**32 - 1),
    (F.TYPE_UINT64, 0, 2**64 - 1), (F.TYPE_FIXED64, 0, 2**64 - 1),
):  # fmt: skip
    SCALARS[_kind] = SMALL | st.integers(_low, _high)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Each field is there or not; an enum may hold a number that it does not name."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.sampled_from([True, True, False])) or (field.message_type and depth > 4):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            _fill_map(draw, message, field, depth)
        elif field.is_repeated:
            for _ in range(draw(st.integers(0, 3))):
                value = draw(value_of(field, depth))
                getattr(message, field.name).append(value)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(draw(value_of(field, depth)))
        else:
            setattr(message, field.name, draw(value_of(field, depth)))
    return message


def value_of(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type:
        return messages(field.message_type, depth + 1)
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values]) | st.sampled_from([99, -1])
    return SCALARS[field.type]


def _fill_map(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    assert field.message_type
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(draw(st.integers(0, 2))):
        name, content = draw(value_of(key, depth)), draw(value_of(value, depth))
        if value.message_type:
            getattr(message, field.name)[name].CopyFrom(content)
        else:
            getattr(message, field.name)[name] = content


def methods_of(channel: grpc.Channel) -> Iterator[MethodDescriptor]:
    """All of the services that the process tells of, gRPC's own apart, and streams."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for name in database.get_services():
        if not name.startswith("grpc."):
            methods = pool.FindServiceByName(name).methods
            yield from (each for each in methods if not (each.client_streaming or each.server_streaming))


def test_every_method_answers_whatever_it_is_sent_with_a_code_of_ours(running: Part, keys: Keys, fuzz: Run) -> None:
    codes: Counter[str] = Counter()
    faults: defaultdict[str, list[str]] = defaultdict(list)
    channels = {name: grpc.insecure_channel(running.ports.listen(name)) for name in WHOLE if name != "gateway"}
    methods = [(channels[name], method) for name in channels for method in methods_of(channels[name])]
    assert len(methods) > 30
    for channel, method in methods:
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = channel.unary_unary(
            path,
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )

        def ask(message: Message, call: Any = call, path: str = path) -> None:
            identity = ((context.TENANT_KEY, keys.tenant), (context.REQUEST_ID_KEY, "fuzz"), (context.ACTOR_KEY, "fuzz"))
            try:
                call(message, timeout=30, metadata=identity)
                codes["OK"] += 1
            except grpc.RpcError as error:
                code = error.code()
                codes[code.name] += 1
                is_missing = code in GONE and any(word in (error.details() or "") for word in MISSING)
                if code in BUGS or (code in GONE and not is_missing):
                    faults[path].append(f"{code.name} {error.details()}: {str(message)[:800]}")

        fuzz(messages(method.input_type), 0.2 / len(methods) / (10 if method.name in SELDOM else 1), ask)
    for channel in channels.values():
        channel.close()
    print(*(f"{path}: {found[:2]}" for path, found in faults.items()), sep="\n")
    print(f"{len(methods)} methods, {codes.total()} calls: {dict(codes)}")
    assert {path: found[:2] for path, found in faults.items()} == {}
