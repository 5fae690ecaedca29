"""10,000 calls of a stranger, over every route and every gRPC method, with ids that were guessed and ids that were stolen."""

import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import httpx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from chassis import context
from infra.topology import ALL, Ports
from tests.e2e.running import Running
from tests.e2e.shop import ACCOUNT, CUSTOMER, EXPERIMENT, HELD_MESSAGE, ITEM, SEGMENT, SURVEY, OpenShop
from tests.e2e.tenants import SCOPES, new_key, new_tenant
from tests.e2e.test_tenants import Call, calls, leaks, reads, reads_at_rest, secrets_of

HTTP_CALLS = RPC_CALLS = 5_000
CALLERS = 12
SEED = 24
# What works over all that a tenant has, or starts a process: a few times are enough.
SELDOM = 2
HEAVY = re.compile(
    r"match-runs$|:rebuild|:recompute|:infer|evaluations|:promote|:rollback|:judge|import-jobs$|exports$|traits|:describe|:correlate"
)
HEAVY_RPC = re.compile(
    "Export|Rebuild|Recompute|Evaluate|Promote|Rollback|Judge|StartMatch|CreateMatch|CreateTenant|Describe|Correlate"
)
READS = re.compile("^(Get|List|Resolve|BatchGet|Find|Lookup|Verify)")
# gRPC's own words for a bug.
BUGS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DATA_LOSS}


@dataclass(frozen=True, slots=True)
class Ids:
    """What a stranger may try: `stolen` are the shop's own, of every kind."""

    stolen: Sequence[str]
    chance: random.Random

    def any(self) -> str:
        match self.chance.randrange(10):
            case 0:
                return str(UUID(int=self.chance.getrandbits(128)))
            case 1:  # the next one
                number = UUID(self.chance.choice([each for each in self.stolen if "-" in each and len(each) == 36])).int
                return str(UUID(int=(number + self.chance.choice((-1, 1))) % (1 << 128)))
            case 2:
                return str(self.chance.randrange(20_000))
            case 3:
                return f"user_id:{self.chance.choice([CUSTOMER, str(self.chance.randrange(12_300, 12_600))])}"
            case _:
                return self.chance.choice(self.stolen)


@pytest.fixture(scope="module")
def document(platform: Running) -> Mapping[str, Any]:
    with platform.client() as client:
        return client.get("/openapi.json").json()


def stolen_of(shop: OpenShop, secrets: set[str]) -> list[str]:
    """All ids that the shop's reads show, those that are no UUIDs too."""
    names = [
        SEGMENT,
        SURVEY,
        EXPERIMENT,
        ITEM,
        HELD_MESSAGE,
        f"group_id:{ACCOUNT}",
        f"user_id:{CUSTOMER}",
        CUSTOMER,
        "churn",
        "1",
    ]
    kinds = [
        shop.profile_id,
        shop.case_id,
        shop.quarantine_id,
        shop.import_job_id,
        shop.match_run_id,
        shop.erasure_id,
        shop.tenant,
    ]
    # Each kind as often as all the profiles together: there are far more of those.
    return sorted(each for each in secrets if re.fullmatch(r"[0-9a-f-]{36}", each)) + (names + kinds) * 20


def foreign_calls(document: Mapping[str, Any], shop: OpenShop, ids: Ids, count: int) -> Iterator[Call]:
    """Every operation in turn, each time with other ids in its path and its body."""
    left = Counter[str]()
    for number in itertools.count():
        for call in calls(document, shop, ids.any()):
            if HEAVY.search(call.route) and call.method != "get" and left[call.name] >= SELDOM:
                continue
            left[call.name] += 1
            path = re.sub(r"\{\w+\}", lambda _: ids.any().replace("/", ""), call.route) if number else call.path
            yield Call(call.method, call.route, path, call.body)
            if left.total() == count:
                return


def filled(descriptor: Descriptor, ids: Ids, depth: int = 0) -> Message:
    """A request with ids wherever one may be."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if ids.chance.random() < 0.2 or (field.message_type and (depth > 3 or field.message_type.GetOptions().map_entry)):
            continue
        values = [_value(field, ids, depth) for _ in range(ids.chance.randint(1, 2))]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif field.message_type:
            getattr(message, field.name).CopyFrom(values[0])
        else:
            setattr(message, field.name, values[0])
    return message


def _value(field: FieldDescriptor, ids: Ids, depth: int) -> Any:
    if field.message_type:
        return filled(field.message_type, ids, depth + 1)
    if field.enum_type:
        return ids.chance.choice([value.number for value in field.enum_type.values])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            text = "" if "token" in field.name else ids.any()
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        case FieldDescriptor.CPPTYPE_BOOL:
            return ids.chance.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return 0.5
        case _:
            return ids.chance.randrange(1, 50)


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method on its service's channel, and what it is asked."""

    channel: grpc.Channel
    method: MethodDescriptor
    request: Message

    @property
    def path(self) -> str:
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    def ask(self, tenant: str) -> tuple[grpc.StatusCode, bytes]:
        """How it ended, and all that was told."""
        call = self.channel.unary_unary(
            self.path, request_serializer=lambda each: each.SerializeToString(), response_deserializer=lambda told: told
        )
        identity = ((context.TENANT_KEY, tenant), (context.REQUEST_ID_KEY, "foreign"), (context.ACTOR_KEY, "foreign"))
        try:
            return grpc.StatusCode.OK, call(self.request, timeout=30, metadata=identity)
        except grpc.RpcError as error:
            return error.code(), f"{error.details()} {error.trailing_metadata()}".encode()  # pyright: ignore

    def told_of(self, told: bytes, secrets: set[str]) -> list[str]:
        """What an answer holds of the shop and the question did not, as a text or as the bytes of an id."""
        said = self.request.SerializeToString()
        return [each for each in secrets for form in forms_of(each) if form in told and form not in said]

    def put_down(self, code: grpc.StatusCode, secrets: set[str]) -> set[str]:
        """What the caller wrote among its own, by a call that is no read and was taken."""
        if code is not grpc.StatusCode.OK or READS.match(self.method.name):
            return set()
        said = self.request.SerializeToString()
        return {each for each in secrets for form in forms_of(each) if form in said}


def forms_of(secret: str) -> list[bytes]:
    return [secret.encode(), *([UUID(secret).bytes] if re.fullmatch(r"[0-9a-f-]{36}", secret) else [])]


def methods_of(channel: grpc.Channel) -> list[MethodDescriptor]:
    """All of the services that the process tells of, gRPC's own apart."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    names = [name for name in database.get_services() if not name.startswith("grpc.")]
    return [method for name in names for method in pool.FindServiceByName(name).methods]


@pytest.fixture(scope="module")
def methods(platform: Running) -> Iterator[list[tuple[grpc.Channel, MethodDescriptor]]]:
    """Of all services, on their own ports: who stands inside the network."""
    channels = [grpc.insecure_channel(Ports(platform.port).listen(name)) for name in ALL]
    yield [(channel, method) for channel in channels for method in methods_of(channel)]
    for channel in channels:
        channel.close()


def foreign_rpcs(methods: Sequence[tuple[grpc.Channel, MethodDescriptor]], ids: Ids, count: int) -> Iterator[Rpc]:
    """Every method in turn, each time with other ids."""
    left = Counter[str]()
    while True:
        for channel, method in methods:
            if HEAVY_RPC.search(method.name) and left[method.full_name] >= SELDOM:
                continue
            left[method.full_name] += 1
            yield Rpc(channel, method, filled(method.input_type, ids))
            if left.total() == count:
                return


def over_http(
    client: httpx.Client, asked: Sequence[Call], secrets: set[str], callers: int = CALLERS
) -> tuple[Counter[int], list[str]]:
    """(answers by status, what is wrong)."""

    def ask(call: Call) -> tuple[int, list[str]]:
        answer = call.ask(client)
        wrong = [f"{call.name} {call.path} told of {secret}" for secret in leaks(answer, call, secrets)]
        if answer.status_code >= 500:
            wrong.append(f"{call.name} {call.path} {call.body} answered {answer.status_code}: {answer.text[:300]}")
        return answer.status_code, wrong

    with ThreadPoolExecutor(callers) as pool:
        answers = list(pool.map(ask, asked))
    return Counter(status for status, _ in answers), [each for _, wrong in answers for each in wrong]


def over_grpc(
    asked: Sequence[tuple[Rpc, str]], secrets: set[str], said: Set[str] = frozenset()
) -> tuple[Counter[str], list[str]]:
    """The same, each in the name of a tenant. What a caller has put down itself it may be told again, `said` before too."""

    def ask(one: tuple[Rpc, str]) -> tuple[str, list[tuple[str, str]], list[str], set[str]]:
        rpc, tenant = one
        code, told = rpc.ask(tenant)
        bug = f"{rpc.path} answered {code.name} {told[:300]!r} to {str(rpc.request)[:500]}"
        return (
            code.name,
            [(rpc.path, each) for each in rpc.told_of(told, secrets)],
            [bug] * (code in BUGS),
            rpc.put_down(code, secrets),
        )

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(ask, asked))
    own = {each for *_, put_down in answers for each in put_down} | said
    wrong = [f"{path} told of {secret}" for _, told, _, _ in answers for path, secret in told if secret not in own]
    return Counter(code for code, *_ in answers), wrong + [bug for _, _, bugs, _ in answers for bug in bugs]


def differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Where two answers differ, but for when a model in memory was built: one that was let go is built anew."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted((before.keys() | after.keys()) - {"modelBuilt"}):
            yield from differences(before.get(name), after.get(name), f"{at}/{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{at}/{number}")
    elif before != after:
        yield f"{at}: {str(before)[:500]} became {str(after)[:500]}"


@pytest.mark.timeout(900)
def test_ten_thousand_foreign_calls_are_told_nothing_and_change_nothing(
    platform: Running,
    shop: OpenShop,
    document: Mapping[str, Any],
    methods: list[tuple[grpc.Channel, MethodDescriptor]],
) -> None:
    tenant = new_tenant(platform, clock="events").name
    key = new_key(platform, tenant, "ingest", *SCOPES)
    with platform.client(shop.key) as owner, platform.client(key) as stranger:
        before = reads_at_rest(document, shop, owner)
        secrets = secrets_of(shop, before)
        ids = Ids(stolen_of(shop, secrets), random.Random(SEED))
        asked = list(foreign_calls(document, shop, ids, HTTP_CALLS))
        rpcs = list(foreign_rpcs(methods, ids, RPC_CALLS))
        assert len({call.name for call in asked}) == sum(
            method in ("get", "post", "put", "patch", "delete") for each in document["paths"].values() for method in each
        )
        assert {rpc.method.full_name for rpc in rpcs} == {method.full_name for _, method in methods}
        started = time.monotonic()
        heavy = [call for call in asked if call.method != "get" and HEAVY.search(call.route)]
        statuses, wrong = over_http(stranger, [call for call in asked if call not in heavy], secrets)
        more, wrong_again = over_http(stranger, heavy, secrets, callers=1)
        # One in twenty calls itself everyone.
        named = [(rpc, tenant if number % 20 else context.EVERYONE) for number, rpc in enumerate(rpcs)]
        purposes = " ".join(call.path for call in asked if call.route == "/v1/purposes/{purpose}")
        codes, wrong_too = over_grpc(named, secrets, {secret for secret in secrets if secret in purposes})
        took_s = time.monotonic() - started
        routes = len({call.name for call in asked})
        print(f"{len(asked)} calls over {routes} operations {dict(statuses + more)}")
        print(f"{len(rpcs)} calls over {len(methods)} methods {dict(codes)}")
        print(f"{len(secrets)} secrets, {took_s:.0f} s")
        assert (wrong + wrong_again + wrong_too)[:10] == []
        after = reads_at_rest(document, shop, owner)
    assert list(differences(before, after)) == []


def test_the_same_calls_of_the_shop_itself_are_told_a_lot(
    platform: Running,
    shop: OpenShop,
    document: Mapping[str, Any],
    methods: list[tuple[grpc.Channel, MethodDescriptor]],
) -> None:
    with platform.client(shop.key) as owner:
        secrets = secrets_of(shop, reads(document, shop, owner))
        ids = Ids(stolen_of(shop, secrets), random.Random(SEED))
        asked = [call for call in foreign_calls(document, shop, ids, 1_000) if call.method == "get"]
        _, told = over_http(owner, asked, secrets)
    rpcs = [rpc for rpc in foreign_rpcs(methods, ids, 2_000) if READS.match(rpc.method.name)]
    _, told_too = over_grpc([(rpc, shop.tenant) for rpc in rpcs], secrets)
    routes, paths = (
        {each.split(" told")[0].split(" ")[number] for each in found} for number, found in ((1, told), (0, told_too))
    )
    print(f"{len(told)} answers' worth over {len(routes)} paths, {len(told_too)} over {len(paths)} methods")
    assert len(routes) > 10
    assert len(paths) > 10
