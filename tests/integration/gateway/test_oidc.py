"""People at the API: tokens of an identity provider, with real keys over real HTTP."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from infra.postgres import Temporary
from services.gateway import api
from services.gateway import provider as provider_module
from services.gateway.api.admission import GuardedRoute
from services.gateway.domain import Scope
from services.gateway.main import Settings
from tests.integration.gateway.conftest import Gateway, Keys, MakeTenant, running
from tests.provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, SigningKey, identity_provider

PUBLIC_URL = "http://127.0.0.1:1"
ALL = {"viewer", "analyst", "ml_engineer", "operator", "admin"}
# Written down a second time, so that nobody changes the code's table by accident.
WHO_HAS: dict[str, set[str]] = {
    "read": ALL,
    "score": {"analyst", "ml_engineer", "admin"},
    "answers": {"analyst", "admin"},
    "define": {"analyst", "admin"},
    "models": {"ml_engineer", "admin"},
    "operate": {"operator", "admin"},
    "ingest": {"operator", "admin"},
    "manage": {"admin"},
    "personal": {"admin"},
}


@dataclass(frozen=True, slots=True)
class People:
    """A gateway that asks a provider, and a tenant there."""

    gateway: Gateway
    provider: IdentityProvider
    tenant: str

    async def ask(self, token: str, path: str = "/v1/segments", method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.gateway.url, trust_env=False, timeout=30) as client:
            return await client.request(method, path, headers=headers, **options)

    def token(self, *roles: str, **changes: Any) -> str:
        return self.provider.token(self.tenant, *(roles or ("viewer",)), **changes)


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as provider:
        yield provider


def with_people(settings: Settings, provider: IdentityProvider) -> Settings:
    more = {
        "oidc_issuer": provider.issuer, "oidc_audience": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET,
        "public_url": PUBLIC_URL,
    }  # fmt: skip
    return settings.model_copy(update=more)


@pytest_asyncio.fixture(scope="module")
async def people(settings: Settings, provider: IdentityProvider, make_tenant: MakeTenant) -> AsyncIterator[People]:
    keys = await make_tenant()
    async with running(with_people(settings, provider)) as gateway:
        yield People(gateway, provider, keys.tenant)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may be asked for again at once."""
    monkeypatch.setattr(provider_module, "RETRY_S", 0.0)


def problem_of(answer: httpx.Response, status: int, code: str) -> str:
    """What a refusal says."""
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    return problem["detail"]


async def test_a_good_token_comes_in_beside_keys(people: People, settings: Settings, make_tenant: MakeTenant) -> None:
    assert (await people.ask(people.token())).status_code == 200
    assert (await people.ask((await make_tenant()).private)).status_code == 200
    assert (await people.ask(people.token(aud=["other", CLIENT_ID]))).status_code == 200
    assert (await people.ask(people.token(aud=[CLIENT_ID, "account"], azp="another-client"))).status_code == 200
    assert (await people.ask(people.token(roles="viewer other"))).status_code == 200


async def test_without_an_issuer_a_token_is_no_key(gateway: Gateway, people: People) -> None:
    stranger = People(gateway, people.provider, people.tenant)
    problem_of(await stranger.ask(people.token()), 401, "INVALID_KEY")


NOW = int(time.time())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exp": NOW - 3600}, "the token has expired"),
        ({"nbf": NOW + 3600}, "the token is not valid yet"),
        ({"iat": NOW + 3600}, "the token is not valid yet"),
        ({"iss": "https://elsewhere.example"}, "the token is of another issuer"),
        ({"iss": None}, "the token is of another issuer"),
        ({"aud": "another-client"}, "the token is for another audience"),
        ({"aud": None}, "the token lacks one of the claims"),
        ({"exp": None}, "the token lacks one of the claims"),
        ({"iat": None}, "the token lacks one of the claims"),
        ({"sub": None}, "the token lacks one of the claims"),
        ({"sub": ""}, "the token's claim sub"),
        ({"sub": "x" * 256}, "the token's claim sub"),
        ({"filling": "x" * 20_000}, "a token has at most"),
    ],
)
async def test_a_token_that_is_not_good_is_refused_with_the_reason(people: People, changes: dict[str, Any], said: str) -> None:
    token = people.token("admin", **changes)
    answer = await people.ask(token)
    assert said in problem_of(answer, 401, "INVALID_TOKEN")
    assert not any(part in answer.text for part in token.split("."))
    assert "example.com" not in answer.text


async def test_clocks_may_differ_a_little(people: People) -> None:
    now = int(time.time())
    assert (await people.ask(people.token(exp=now - 10))).status_code == 200
    assert (await people.ask(people.token(nbf=now + 10, iat=now + 10))).status_code == 200


async def test_a_token_that_nobody_signed_is_refused(people: People) -> None:
    claims = people.provider.claims(people.tenant, "admin")
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": people.provider.signing.kid})
    assert "algorithm" in problem_of(await people.ask(unsigned), 401, "INVALID_TOKEN")
    good = people.token("admin")
    stripped = good.rpartition(".")[0] + "."
    assert "signature" in problem_of(await people.ask(stripped), 401, "INVALID_TOKEN")
    head, _, signature = good.split(".")
    body = base64url_encode(json.dumps({**claims, "sub": "somebody-else"}).encode()).decode()
    assert "signature" in problem_of(await people.ask(f"{head}.{body}.{signature}"), 401, "INVALID_TOKEN")


async def test_the_public_key_is_not_taken_for_a_shared_secret(people: People) -> None:
    claims = people.provider.claims(people.tenant, "admin")
    public = people.provider.signing.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [base64url_encode(json.dumps(part).encode()) for part in (
        {"alg": "HS256", "typ": "JWT", "kid": people.provider.signing.kid}, claims)]  # fmt: skip
    signature = jwt.get_algorithm_by_name("HS256").sign(b".".join(parts), pem)
    forged = b".".join([*parts, base64url_encode(signature)]).decode()
    assert "algorithm" in problem_of(await people.ask(forged), 401, "INVALID_TOKEN")


# Objects in objects, deeper than a reader may go.
NESTED = base64url_encode(b'{"a":' * 2_000).decode()
DEEP = f"eyJhbGciOiJSUzI1NiJ9.{NESTED}.AAAA"


@pytest.mark.parametrize(
    "garbage",
    ["eyJ.eyJ.x", "eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "eyJhbGciOlsxXX0.e30.AAAA", "eyJhbGciOiJSUzI1NiIsImtpZCI6MX0.e30.", DEEP],
)
async def test_what_is_no_token_is_refused(people: People, garbage: str) -> None:
    assert problem_of(await people.ask(garbage), 401, "INVALID_TOKEN")


async def test_a_token_of_another_type_signs_nobody_in(people: People) -> None:
    claims = people.provider.claims(people.tenant, "admin")
    said = problem_of(await people.ask(people.provider.sign(claims, typ="logout+jwt")), 401, "INVALID_TOKEN")
    assert "another type" in said
    assert (await people.ask(people.provider.sign(claims, typ="at+jwt"))).status_code == 200


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "PS256", "RS256"])
async def test_a_new_key_of_the_provider_is_found_and_an_old_one_forgotten(people: People, algorithm: str) -> None:
    old = people.token()
    assert (await people.ask(old)).status_code == 200
    people.provider.rotate(algorithm)
    assert (await people.ask(people.token())).status_code == 200
    said = problem_of(await people.ask(old), 401, "INVALID_TOKEN")
    assert "does not publish" in said


@pytest.mark.usefixtures("eager")
@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits long")  # says the library that signs it
async def test_a_secret_or_short_key_that_a_provider_publishes_signs_nobody_in(people: People) -> None:
    published = people.provider.published
    short = SigningKey(bits=1024)
    shared = {"kty": "oct", "kid": "shared", "k": "c2hhcmVkLXNlY3JldC1vZi1hLXByb3ZpZGVyLXRoYXQtdGVsbHM"}
    people.provider.published = [*published, short.jwk, shared, {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}]
    claims = people.provider.claims(people.tenant, "admin")
    weak = jwt.encode(claims, short.private, algorithm="RS256", headers={"kid": short.kid})
    assert "does not publish" in problem_of(await people.ask(weak), 401, "INVALID_TOKEN")
    assert (await people.ask(people.token())).status_code == 200
    people.provider.published = published


async def test_made_up_key_ids_do_not_reach_the_provider_each_time(people: People) -> None:
    claims = people.provider.claims(people.tenant, "admin")
    before = people.provider.asked.count("/keys")
    for number in range(20):
        answer = await people.ask(people.provider.sign(claims, kid=f"made-up-{number}"))
        problem_of(answer, 401, "INVALID_TOKEN")
    assert people.provider.asked.count("/keys") <= before + 1


async def test_while_the_provider_is_down_keys_that_were_seen_count_and_others_wait(
    settings: Settings, make_tenant: MakeTenant, eager: None
) -> None:
    keys = await make_tenant()
    with identity_provider() as provider:
        async with running(with_people(settings, provider)) as gateway:
            people = People(gateway, provider, keys.tenant)
            provider.stop()
            answer = await people.ask(people.token())
            assert problem_of(answer, 503, "PROVIDER_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
            provider.start()
            assert (await people.ask(people.token())).status_code == 200
            provider.stop()
            assert (await people.ask(people.token())).status_code == 200
            provider.rotate()
            problem_of(await people.ask(people.token()), 503, "PROVIDER_UNAVAILABLE")
            assert (await people.ask(keys.private)).status_code == 200
            provider.start()
            assert (await people.ask(people.token())).status_code == 200


@pytest.mark.parametrize("says", [{"issuer": "https://elsewhere.example"}, {"jwks_uri": "http://elsewhere.example/keys"}])
async def test_a_provider_that_is_another_one_or_speaks_in_the_clear_is_not_believed(
    settings: Settings, make_tenant: MakeTenant, says: dict[str, str]
) -> None:
    keys = await make_tenant()
    with identity_provider() as provider:
        provider.says = says
        async with running(with_people(settings, provider)) as gateway:
            people = People(gateway, provider, keys.tenant)
            problem_of(await people.ask(people.token()), 503, "PROVIDER_UNAVAILABLE")


@pytest.mark.parametrize("tenant", ["nobody-here", "No Name", 7, None])
async def test_a_tenant_that_is_not_here_is_denied(people: People, tenant: object) -> None:
    assert "'tenant'" in problem_of(await people.ask(people.token("admin", tenant=tenant)), 403, "UNKNOWN_TENANT")


@pytest.mark.parametrize("roles", [[], ["root"], "root", None, {"admin": True}, [["admin"]], "ADMIN"])
async def test_who_has_no_role_of_ours_is_denied(people: People, roles: object) -> None:
    assert "viewer" in problem_of(await people.ask(people.token(roles=roles)), 403, "MISSING_ROLE")


ROUTES = [(method, route) for route in api._guarded_routes() if route.need.scope for method in sorted(route.methods or ())]


def test_the_table_names_every_scope() -> None:
    assert WHO_HAS.keys() == {scope.value for scope in Scope}


@pytest.mark.parametrize("role", sorted(ALL))
async def test_every_route_lets_in_the_roles_of_the_table_and_nobody_else(people: People, role: str) -> None:
    token = people.token(role, sub=f"matrix-{role}")
    wrong: list[str] = []
    for method, route in ROUTES:
        answer = await people.ask(token, path_of(route), method, content=b"{" if method != "GET" else None)
        wrong += misjudged(route, method, role, answer)
    assert len(ROUTES) > 80
    assert wrong == []


def path_of(route: GuardedRoute) -> str:
    return re.sub(r"\{[^}]*\}", "00000000-0000-4000-8000-000000000000", route.path)


def misjudged(route: GuardedRoute, method: str, role: str, answer: httpx.Response) -> list[str]:
    """What is wrong with the answer. What a role may, fails later: nothing is at these addresses, and bodies are cut off."""
    scope = route.need.scope
    assert scope is not None
    may, came_in = role in WHO_HAS[scope.value], answer.status_code not in (401, 403)
    if may != came_in:
        return [f"{role} {method} {route.path}: {answer.status_code} {answer.text}"]
    if not may:
        problem = answer.json()
        said = problem["detail"]
        if (
            problem["code"] != "MISSING_SCOPE"
            or repr(scope.value) not in said
            or not all(one in said for one in WHO_HAS[scope])
        ):
            return [f"{role} {method} {route.path}: {said}"]
    return []


async def test_who_has_two_roles_may_what_either_may(people: People) -> None:
    token = people.token("operator", "analyst")
    assert (await people.ask(token, "/v1/retention")).status_code == 200
    answer = await people.ask(token, "/v1/segments", "POST", json={})
    problem_of(answer, 400, "MISSING_FIELD")
    said = problem_of(await people.ask(token, "/v1/audit"), 403, "MISSING_SCOPE")
    assert said == "analyst, operator lacks the scope 'manage'; roles that have it: admin"


async def test_a_person_sees_only_the_own_tenant(people: People, make_tenant: MakeTenant) -> None:
    other = await make_tenant()
    foreign = People(people.gateway, people.provider, other.tenant)
    made = {"kind": "NPS", "question": "How likely?", "surveyId": "people-1"}
    assert (await people.ask(people.token("analyst"), "/v1/surveys", "POST", json=made)).status_code < 300
    assert (await people.ask(people.token(), "/v1/surveys/people-1")).status_code == 200
    assert (await foreign.ask(foreign.token("admin"), "/v1/surveys/people-1")).status_code == 404


async def test_a_person_has_a_pace_and_all_tokens_share_it(settings: Settings, provider: IdentityProvider, keys: Keys) -> None:
    slow = with_people(settings, provider).model_copy(update={"rate_limit_per_s": 1.0})
    async with running(slow) as gateway:
        people = People(gateway, provider, keys.tenant)
        gateway.app.state.keyring.replicas = 1
        answers = [await people.ask(people.token(jti=str(number))) for number in range(4)]
        other = await people.ask(people.token(sub="another"))
    assert [answer.status_code for answer in answers].count(429) >= 2
    assert other.status_code == 200


async def test_the_audit_log_names_the_subject_and_the_role_and_no_address(people: People) -> None:
    token = people.token("admin", sub="subject-7")
    await people.ask(token, "/v1/retention", "PUT", json={})
    await people.ask(people.token("admin", sub="ada.private@example.com"), "/v1/retention", "PUT", json={})
    changes = (await people.ask(token, "/v1/audit?limit=2")).json()["data"]
    assert changes[1]["actor"] == "sub:subject-7/admin"
    assert re.fullmatch(r"sub:[0-9a-f]{32}/admin", changes[0]["actor"])
    assert "Private" not in str(changes)
    assert "example.com" not in str(changes)


async def test_no_log_line_holds_a_token_or_who_it_is_of(people: People, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = [people.token("admin"), people.token("admin", exp=1), people.token("admin", aud="other")]
    for token in tokens:
        await people.ask(token)
    await asyncio.sleep(0.05)
    written = "".join(capfd.readouterr())
    assert "GET /v1/segments" in written
    assert not any(part in written for token in tokens for part in token.split(".")[1:])
    assert "Private" not in written
    assert "private@" not in written


async def test_personal_values_are_for_the_role_that_has_the_scope(people: People) -> None:
    await people.ask(people.token("admin"), "/v1/identify", "POST", json={"userId": "ada"})
    shown = {
        role: str((await people.ask(people.token(role), "/v1/profiles/user_id:ada/portrait")).json()) for role in sorted(ALL)
    }
    assert {role for role, text in shown.items() if "'personal': True" in text} == {"admin"}


async def test_the_document_says_where_people_sign_in_and_what_roles_may(people: People) -> None:
    document = (await people.ask("none", "/openapi.json")).json()
    scheme = document["components"]["securitySchemes"]["people"]
    assert scheme["type"] == "openIdConnect"
    assert scheme["openIdConnectUrl"] == f"{people.provider.issuer}/.well-known/openid-configuration"
    assert "`operator`: ingest, operate, read" in scheme["description"]
    operation = document["paths"]["/v1/retention"]["put"]
    assert {"people": []} in operation["security"]
    assert operation["description"].endswith("Scope: `operate`. Roles: operator, admin.")


async def test_what_is_kept_of_a_session_tells_nobody(platform_database: Temporary) -> None:
    connection = await asyncpg.connect(platform_database.dsn("rapport_gateway"))
    try:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'gateway' AND table_name = 'sessions'"
        )
    finally:
        await connection.close()
    assert {row[0] for row in columns} == {"digest", "tenant_id", "subject", "roles", "started", "expires"}
