"""What a token says, what roles may, and what a value looks like to those who may not see it."""

import pytest
from pydantic import ValidationError

from chassis.errors import Denied
from services.gateway.domain import (
    SCOPES_OF,
    Person,
    Role,
    Scope,
    claim_of,
    holds,
    looks_like_token,
    require,
    roles_in,
    roles_with,
    subject_named,
)
from services.gateway.main import Settings
from services.gateway.masking import masked

V, A, M, OP, ADMIN = Role.VIEWER, Role.ANALYST, Role.ML_ENGINEER, Role.OPERATOR, Role.ADMIN


@pytest.mark.parametrize(
    ("scope", "roles"),
    [
        (Scope.READ, [V, A, M, OP, ADMIN]),
        (Scope.SCORE, [A, M, ADMIN]),
        (Scope.ANSWERS, [A, ADMIN]),
        (Scope.DEFINE, [A, ADMIN]),
        (Scope.MODELS, [M, ADMIN]),
        (Scope.OPERATE, [OP, ADMIN]),
        (Scope.INGEST, [OP, ADMIN]),
        (Scope.MANAGE, [ADMIN]),
        (Scope.PERSONAL, [ADMIN]),
    ],
)
def test_each_scope_is_had_by_these_roles(scope: Scope, roles: list[Role]) -> None:
    assert roles_with(scope) == roles


def test_every_role_reads() -> None:
    assert SCOPES_OF.keys() == set(Role)
    assert all(Scope.READ in scopes for scopes in SCOPES_OF.values())


@pytest.mark.parametrize("part", [Scope.DEFINE, Scope.OPERATE])
def test_who_may_manage_may_what_is_part_of_it(part: Scope) -> None:
    assert holds({Scope.MANAGE}, part)
    assert not holds({part}, Scope.MANAGE)
    assert not holds(set(Scope) - {Scope.MANAGE, part}, part)


def test_who_has_several_roles_has_the_sum() -> None:
    person = Person("shop", "subject", frozenset({A, OP}))
    assert person.scopes == SCOPES_OF[A] | SCOPES_OF[OP]
    assert person.actor == "sub:subject/analyst+operator"
    assert Person("other", "subject", person.roles).name != person.name


def test_a_person_is_told_who_may() -> None:
    with pytest.raises(Denied, match="viewer lacks the scope 'models'; roles that have it: ml_engineer, admin"):
        require(SCOPES_OF[V], Scope.MODELS, {V})


@pytest.mark.parametrize(
    ("claim", "roles"),
    [
        (["viewer"], {V}),
        (["viewer", "admin", "somebody"], {V, ADMIN}),
        ("analyst", {A}),
        ("ml_engineer operator", {M, OP}),
        ("viewer,admin", {V, ADMIN}),
        (["Viewer"], set()),
        (["viewer admin"], set()),
        ([["admin"], {"admin": 1}, 7, None], set()),
        ({"admin": True}, set()),
        (None, set()),
        ("", set()),
    ],
)
def test_roles_are_read_from_a_list_or_a_text(claim: object, roles: set[Role]) -> None:
    assert roles_in(claim) == roles


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tenant", "shop"),
        ("realm_access.roles", ["admin"]),
        ("https://rapport.example/roles", ["viewer"]),
        ("realm_access.nothing", None),
        ("tenant.deeper", None),
        ("nothing", None),
    ],
)
def test_a_claim_is_found_by_its_name_or_its_path(path: str, value: object) -> None:
    claims = {"tenant": "shop", "realm_access": {"roles": ["admin"]}, "https://rapport.example/roles": ["viewer"]}
    assert claim_of(claims, path) == value


@pytest.mark.parametrize("subject", ["248289761001", "auth0|5f7c8ec7c33c6c004bbafe82", "f:1c2d:ada"])
def test_an_opaque_subject_is_written_down_as_it_is(subject: str) -> None:
    assert subject_named(subject) == subject


@pytest.mark.parametrize("subject", ["ada@example.com", "Ada Lovelace", "艾达", "x" * 200, "a\nb"])
def test_a_subject_that_may_be_an_address_or_a_name_is_not(subject: str) -> None:
    named = subject_named(subject)
    assert len(named) == 32
    assert subject not in named
    assert named == subject_named(subject) != subject_named(f"{subject}1")


def test_a_key_does_not_look_like_a_token() -> None:
    assert looks_like_token("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
    assert not looks_like_token("sk_0123456789ab_" + "0" * 64)
    assert not looks_like_token("eyJhbGciOiJSUzI1NiJ9")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("ada@example.com", "a•••@e•••.com"),
        ("a.b.c@mail.example.co.uk", "a•••@m•••.uk"),
        ("Ada Lovelace", "•••"),
        ("+44 20 7946 0958", "•••"),
        ("write to ada@example.com", "•••"),
        ("ada@localhost", "•••"),
        ("@", "•••"),
        ("", "•••"),
    ],
)
def test_a_masked_value_tells_two_addresses_apart_and_nothing_else(value: str, seen: str) -> None:
    assert masked(value) == seen


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"oidc_issuer": "https://login.example"}, "needs oidc_audience and public_url"),
        (
            {"oidc_issuer": "http://login.example", "oidc_audience": "a", "public_url": "https://b.example"},
            "oidc_issuer begins",
        ),
        ({"oidc_issuer": "https://login.example", "oidc_audience": "a", "public_url": "http://b.example"}, "public_url b"),
        ({"oidc_issuer": "login.example", "oidc_audience": "a", "public_url": "https://b.example"}, "oidc_issuer b"),
    ],
)
def test_settings_that_are_not_whole_or_in_the_clear_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(**settings)  # pyright: ignore[reportArgumentType]


def test_a_provider_on_this_machine_may_speak_in_the_clear_and_the_secret_is_not_shown() -> None:
    here = "http://127.0.0.1:9400"
    settings = Settings(oidc_issuer=here, oidc_audience="a", public_url=here, oidc_client_secret="hidden-one")  # pyright: ignore[reportCallIssue]
    assert "hidden-one" not in repr(settings)
