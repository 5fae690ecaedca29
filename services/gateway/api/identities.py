"""Who is who, and why: identifiers, a person's word on them, and the accounts above persons."""

from collections.abc import Container
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BeforeValidator, Field
from rapport.profiles.v1 import identities_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.bound import DenialsOf, People
from services.gateway.api.serving import ReadsOf, SeesPersonal, Services
from services.gateway.domain import Scope
from services.gateway.wire import NO_NUL, Answer, Asked, Cursor, Limit, Page, PathRef, PeoplePage, Ref, with_slashes

routes = router("Identities")

Kind = Literal["user_id", "anonymous_id", "email", "phone", "device_id", "external_id"]
Joining = Literal["email", "phone", "device_id", "external_id"]
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=NO_NUL, description="For the record; kept encrypted.")]
MessageId = Annotated[str, Field(max_length=255, pattern=NO_NUL, description="A repeat with the same changes nothing.")]
_ACCOUNT = r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|group_id:[^\x00]{1,255})$"
AccountRef = Annotated[
    str,
    BeforeValidator(with_slashes),
    Path(alias="account", pattern=_ACCOUNT, description="An account's id, or `group_id:<id>`, URL-encoded."),
]


class Identifier(Asked):
    """An identifier as people write it; of an external id `<type>:<id>`. A telephone number begins with + and its country."""

    namespace: Kind
    value: str = Field(min_length=1, max_length=255, pattern=NO_NUL, examples=["ada@example.com"])


class Question(Asked):
    """Who is known by these."""

    identifiers: list[Identifier] = Field(min_length=1, max_length=1000)


class FoundProfile(Answer):
    """`profileId` null: `status` says why."""

    namespace: Kind
    profile_id: str | None
    status: Literal["FOUND", "NOT_FOUND", "CONSENT_DENIED"]


class FoundProfiles(Answer):
    """One for each identifier, in order."""

    data: list[FoundProfile]


class LinkQuestion(Asked):
    """That another profile is the same person."""

    other: Ref
    reason: Reason
    message_id: MessageId = ""


class Linked(Answer):
    """The profile that both are now."""

    profile_id: str


class UnmergeQuestion(Asked):
    """That an identifier, or a profile that became part of this one, is another person."""

    part: Ref
    part_from: Ref | None = Field(
        None, alias="from", description="From whom. Without it: from the identifier that names the profile."
    )
    reason: Reason
    message_id: MessageId = ""


class Unmerged(Answer):
    """Both profiles, each as if they had never been one."""

    profile_id: str
    parted_profile_id: str


class IdentityNode(Answer):
    """An identifier of the profile."""

    node_id: str
    namespace: Kind
    first_seen: datetime | None
    event_count: int = Field(description="Events of its own.")
    since: datetime | None = Field(description="Since when it belongs to this profile.")
    shared: bool = Field(description="It comes with too many user ids, and joins nobody any more.")
    personal: str = Field(description="The identifier itself: only for keys with the scope `personal`, where a call told it.")


class IdentityLink(Answer):
    """Two identifiers that came together, and the first event that says so."""

    node_a: str
    node_b: str
    since: datetime | None
    event_id: str
    event_timestamp: datetime | None
    source: str
    refused: str = Field(description="Empty: followed. Else why not: unmerged, shared, user_id_limit, limit, too_many_links.")


class IdentityRuling(Answer):
    """A person's word on two identifiers."""

    node_a: str
    node_b: str
    since: datetime | None
    event_id: str
    kind: Literal["unmerged", "linked"]
    in_force: bool


class IdentityGraph(Answer):
    """Why these are one."""

    profile_id: str
    nodes: list[IdentityNode]
    links: list[IdentityLink]
    rulings: list[IdentityRuling]


class IdentityIssue(Answer):
    """`shared`: an identifier of many users. `full`: a profile that takes no more identifiers of some kind."""

    kind: Literal["shared", "full"]
    node_id: str
    namespace: Kind
    profile_id: str
    since: datetime | None


class IdentifierLimit(Answer):
    """How many of a kind one profile has at most."""

    namespace: Kind
    limit: int


class IdentityRules(Answer):
    """Which kinds join profiles beside user ids and anonymous ids; the others only find them."""

    joining: list[Joining]
    blocked_count: int = Field(description="Values blocked beside those that every tenant has; they are kept as hashes only.")
    limits: list[IdentifierLimit]
    max_identifiers: int
    max_users_of_identifier: int = Field(description="An identifier that comes with more user ids is shared.")


class IdentityRulesDraft(Asked):
    """In the place of what there is. Counts for events that come in from then on."""

    joining: list[Joining] = Field(default_factory=list[Joining], max_length=4)
    blocked: list[Identifier] = Field(default_factory=list[Identifier], max_length=1000)


class Account(Answer):
    """What `group` calls name: a company, or a household (`traits.kind` is "household")."""

    account_id: str
    kind: Literal["account", "household"]
    group_id: str = Field(description="As it was sent; empty where that is personal.")
    traits: dict[str, Any]
    first_seen: datetime | None
    member_count: int


class AccountMember(Answer):
    """A profile that belongs to an account."""

    profile_id: str
    since: datetime | None


class AccountOfProfile(Answer):
    """An account that a profile belongs to."""

    account_id: str
    kind: Literal["account", "household"]
    group_id: str
    since: datetime | None


class AccountsOfProfile(Answer):
    """The oldest membership first, at most 100."""

    data: list[AccountOfProfile]


@routes.post("/v1/profiles:lookup")
@needs(Scope.READ, people=People.IN_BODY)
async def lookup_profiles(services: Services, reads: ReadsOf, denials: DenialsOf, asked: Question) -> FoundProfiles:
    """Profiles by identifiers of any kind, in a body, so that no personal value stands in a URL."""
    found = await reads.lookup([_identifier(each) for each in asked.identifiers])
    denied = await denials.of(services, [each for each in found if each])
    pairs = zip(asked.identifiers, found, strict=True)
    return FoundProfiles(data=[_found(each.namespace, profile_id, denied) for each, profile_id in pairs])


@routes.get("/v1/profiles/{ref}/identity-graph")
@needs(Scope.READ)
async def get_identity_graph(services: Services, sees_personal: SeesPersonal, ref: PathRef) -> IdentityGraph:
    """Why these are one: identifiers, the events that linked them, links that are not followed and why."""
    request = identities_pb2.GetIdentityGraphRequest(ref=ref, with_personal=sees_personal)
    return IdentityGraph.of(await services.identities.GetIdentityGraph(request))


@routes.post("/v1/profiles/{ref}:link")
@needs(Scope.OPERATE)
async def link_profiles(services: Services, ref: PathRef, asked: LinkQuestion) -> Linked:
    """Makes two profiles one, whatever parted them before."""
    request = identities_pb2.LinkProfilesRequest(
        ref=ref, other_ref=asked.other, reason=asked.reason, message_id=asked.message_id
    )
    return Linked.of(await services.identities.LinkProfiles(request))


@routes.post("/v1/profiles/{ref}:unmerge")
@needs(Scope.OPERATE)
async def unmerge_profile(services: Services, ref: PathRef, asked: UnmergeQuestion) -> Unmerged:
    """Parts two that are not one person: both as if they had never been, and never one again until somebody links them."""
    request = identities_pb2.UnmergeProfileRequest(
        ref=ref, part=asked.part, reason=asked.reason, message_id=asked.message_id, **{"from": asked.part_from or ""}
    )
    return Unmerged.of(await services.identities.UnmergeProfile(request))


@routes.get("/v1/identity-issues")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_identity_issues(services: Services, limit: Limit = 100, cursor: Cursor = "") -> PeoplePage[IdentityIssue]:
    """Shared identifiers, and profiles at their limits."""
    request = identities_pb2.ListIdentityIssuesRequest(page_size=limit, page_token=cursor)
    answer = await services.identities.ListIdentityIssues(request)
    return PeoplePage[IdentityIssue].of_items([IdentityIssue.of(each) for each in answer.issues], answer.next_page_token)


@routes.get("/v1/identity-rules")
@needs(Scope.READ)
async def get_identity_rules(services: Services) -> IdentityRules:
    """What joins profiles, what is blocked, and the limits."""
    return IdentityRules.of(await services.identities.GetIdentityRules(identities_pb2.GetIdentityRulesRequest()))


@routes.put("/v1/identity-rules")
@needs(Scope.OPERATE)
async def put_identity_rules(services: Services, asked: IdentityRulesDraft) -> IdentityRules:
    """Says what joins profiles and which values are nobody's."""
    request = identities_pb2.UpdateIdentityRulesRequest(
        joining=asked.joining, blocked=[_identifier(each) for each in asked.blocked]
    )
    return IdentityRules.of(await services.identities.UpdateIdentityRules(request))


@routes.get("/v1/accounts")
@needs(Scope.READ)
async def list_accounts(
    services: Services,
    limit: Limit = 100,
    cursor: Cursor = "",
    kind: Annotated[Literal["account", "household"] | None, Query(description="Only these.")] = None,
) -> Page[Account]:
    """All accounts and households, a page at a time."""
    request = identities_pb2.ListAccountsRequest(page_size=limit, page_token=cursor, kind=kind or "")
    answer = await services.identities.ListAccounts(request)
    return Page[Account].of_items([Account.of(each) for each in answer.accounts], answer.next_page_token)


@routes.get("/v1/accounts/{account}")
@needs(Scope.READ)
async def get_account(services: Services, account: AccountRef) -> Account:
    """One account."""
    return Account.of(await services.identities.GetAccount(identities_pb2.GetAccountRequest(ref=account)))


@routes.get("/v1/accounts/{account}/members")
@needs(Scope.READ, people=People.IN_ROWS)
async def list_account_members(
    services: Services, account: AccountRef, limit: Limit = 100, cursor: Cursor = ""
) -> PeoplePage[AccountMember]:
    """Who belongs to an account, by profile."""
    request = identities_pb2.ListAccountMembersRequest(ref=account, page_size=limit, page_token=cursor)
    answer = await services.identities.ListAccountMembers(request)
    return PeoplePage[AccountMember].of_items([AccountMember.of(each) for each in answer.members], answer.next_page_token)


@routes.get("/v1/profiles/{ref}/accounts")
@needs(Scope.READ)
async def list_profile_accounts(services: Services, ref: PathRef) -> AccountsOfProfile:
    """The accounts and households that a customer belongs to."""
    answer = await services.identities.ListProfileAccounts(identities_pb2.ListProfileAccountsRequest(ref=ref))
    return AccountsOfProfile(data=[AccountOfProfile.of(each) for each in answer.accounts])


def _found(namespace: Kind, profile_id: str, denied: Container[str]) -> FoundProfile:
    if profile_id in denied:
        return FoundProfile(namespace=namespace, profile_id=None, status="CONSENT_DENIED")
    return FoundProfile(namespace=namespace, profile_id=profile_id or None, status="FOUND" if profile_id else "NOT_FOUND")


def _identifier(asked: Identifier) -> identities_pb2.Identifier:
    return identities_pb2.Identifier(namespace=asked.namespace, value=asked.value)
