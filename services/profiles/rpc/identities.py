"""The gRPC service Identities."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from rapport.profiles.v1 import identities_pb2 as pb
from rapport.profiles.v1 import identities_pb2_grpc

from chassis.errors import InvalidArgument, NotFound
from services.profiles.domain import refs
from services.profiles.domain.clock import moment_of
from services.profiles.domain.identifiers import Rules
from services.profiles.domain.identity import LIMITS, MAX_NODES, MAX_USERS, Link, Namespace, Ruling, namespace_of
from services.profiles.identities import Graph, Identities
from services.profiles.lookup import MAX_REFS, Lookup
from services.profiles.rpc import paging
from services.profiles.rpc.wire import timestamp
from services.profiles.rules import IdentityRules, identifier_of
from services.profiles.store.accounts import ACCOUNT, HOUSEHOLD, AccountRow, AccountStore
from services.profiles.store.identities import IdentityStore
from services.profiles.store.issues import IssueRow, IssueStore
from services.profiles.store.profiles import ProfileStore
from services.profiles.tenancy import Tenant, Tenants

_GROUP: Final = "group_id:"


class IdentitiesRpc(identities_pb2_grpc.IdentitiesServicer):
    """Decodes, asks, encodes."""

    def __init__(
        self,
        tenants: Tenants,
        identities: Identities,
        rules: IdentityRules,
        profiles: ProfileStore,
        store: IdentityStore,
        issues: IssueStore,
        accounts: AccountStore,
    ) -> None:
        self._tenants = tenants
        self._identities = identities
        self._rules = rules
        self._profiles = profiles
        self._lookup = Lookup(profiles)
        self._store = store
        self._issues = issues
        self._accounts = accounts

    async def LookupProfiles(self, request: pb.LookupProfilesRequest, context: object) -> pb.LookupProfilesResponse:
        tenant = await self._tenants.present()
        if len(request.identifiers) > MAX_REFS:
            raise InvalidArgument(f"at most {MAX_REFS} identifiers at a time", field="identifiers")
        asked = [
            tenant.keys.node_id(*identifier_of(each.namespace, each.value, f"identifiers[{index}]"))
            for index, each in enumerate(request.identifiers)
        ]
        found = await self._store.found_by(tenant.tenant_id, asked) | await self._profiles.resolve(tenant.tenant_id, asked)
        return pb.LookupProfilesResponse(profile_ids=[str(found.get(node_id, "")) for node_id in asked])

    async def GetIdentityGraph(self, request: pb.GetIdentityGraphRequest, context: object) -> pb.IdentityGraph:
        tenant = await self._tenants.present()
        return _graph(await self._identities.graph(tenant, request.ref, with_personal=request.with_personal))

    async def LinkProfiles(self, request: pb.LinkProfilesRequest, context: object) -> pb.LinkProfilesResponse:
        tenant = await self._tenants.present()
        linked = await self._identities.link(tenant, request.ref, request.other_ref, request.reason, request.message_id)
        return pb.LinkProfilesResponse(profile_id=str(linked))

    async def UnmergeProfile(self, request: pb.UnmergeProfileRequest, context: object) -> pb.UnmergeProfileResponse:
        tenant = await self._tenants.present()
        said = getattr(request, "from")
        stays, gone = await self._identities.part(tenant, request.ref, request.part, said, request.reason, request.message_id)
        return pb.UnmergeProfileResponse(profile_id=str(stays), parted_profile_id=str(gone))

    async def ListIdentityIssues(self, request: pb.ListIdentityIssuesRequest, context: object) -> pb.ListIdentityIssuesResponse:
        tenant = await self._tenants.present()
        size, after = paging.page_size(request.page_size), paging.named_after(request.page_token)
        rows = await self._issues.page(tenant.tenant_id, after or (UUID(int=0), ""), size + 1)
        last = rows[size - 1] if len(rows) > size else None
        return pb.ListIdentityIssuesResponse(
            issues=[_issue(row) for row in rows[:size]],
            next_page_token=paging.named_token(last.node_id, last.kind.value) if last else "",
        )

    async def GetIdentityRules(self, request: pb.GetIdentityRulesRequest, context: object) -> pb.IdentityRules:
        return _rules(await self._rules.of(await self._tenants.present()))

    async def UpdateIdentityRules(self, request: pb.UpdateIdentityRulesRequest, context: object) -> pb.IdentityRules:
        tenant = await self._tenants.present()
        blocked = [identifier_of(each.namespace, each.value, f"blocked[{index}]") for index, each in enumerate(request.blocked)]
        return _rules(await self._rules.update(tenant, request.joining, blocked))

    async def ListAccounts(self, request: pb.ListAccountsRequest, context: object) -> pb.ListAccountsResponse:
        tenant = await self._tenants.present()
        if request.kind not in ("", ACCOUNT, HOUSEHOLD):
            raise InvalidArgument(f"kind is {ACCOUNT} or {HOUSEHOLD}", field="kind")
        size, after = paging.page_size(request.page_size), paging.profile_after(request.page_token)
        rows = await self._accounts.page(tenant.tenant_id, after, request.kind, size + 1)
        return pb.ListAccountsResponse(
            accounts=[_account(row) for row in rows[:size]],
            next_page_token=paging.profile_token(rows[size - 1].account_id) if len(rows) > size else "",
        )

    async def GetAccount(self, request: pb.GetAccountRequest, context: object) -> pb.Account:
        return _account(await self._account(await self._tenants.present(), request.ref))

    async def ListAccountMembers(self, request: pb.ListAccountMembersRequest, context: object) -> pb.ListAccountMembersResponse:
        tenant = await self._tenants.present()
        size, after = paging.page_size(request.page_size), paging.profile_after(request.page_token)
        account = await self._account(tenant, request.ref)
        rows = await self._accounts.members(tenant.tenant_id, account.account_id, after, size + 1)
        return pb.ListAccountMembersResponse(
            members=[pb.AccountMember(profile_id=str(each), since=timestamp(since)) for each, since in rows[:size]],
            next_page_token=paging.profile_token(rows[size - 1][0]) if len(rows) > size else "",
        )

    async def ListProfileAccounts(
        self, request: pb.ListProfileAccountsRequest, context: object
    ) -> pb.ListProfileAccountsResponse:
        tenant = await self._tenants.present()
        person = await self._lookup.person(tenant, request.ref)
        found = await self._accounts.of(tenant.tenant_id, person.node_ids)
        return pb.ListProfileAccountsResponse(
            accounts=[
                pb.AccountOfProfile(
                    account_id=str(row.account_id), kind=row.kind, since=timestamp(since), group_id=row.group_id
                )
                for row, since in found
            ]
        )

    async def _account(self, tenant: Tenant, ref: str) -> AccountRow:
        """Raises NotFound, or InvalidArgument."""
        if ref.startswith(_GROUP) and 0 < len(ref) - len(_GROUP) <= refs.MAX_ID_LENGTH and "\x00" not in ref:
            account_id = tenant.keys.account_id(ref.removeprefix(_GROUP))
        elif (found := refs.profile_id_of(ref)) is not None:
            account_id = found
        else:
            raise InvalidArgument(f"an account is named by its id, or by {_GROUP}<id>", field="ref")
        if (row := await self._accounts.find(tenant.tenant_id, account_id)) is None:
            raise NotFound("there is no such account", field="ref")
        return row


def _graph(graph: Graph) -> pb.IdentityGraph:
    nodes = [
        pb.IdentityNode(
            node_id=str(row.node_id),
            namespace=namespace_of(row.node_id).label,
            first_seen=timestamp(row.first_seen),
            event_count=row.event_count,
            since=timestamp(graph.since.get(row.node_id, row.first_seen)),
            shared=row.node_id in graph.shared,
            personal=graph.personal.get(row.node_id, ""),
        )
        for row in graph.nodes
    ]
    return pb.IdentityGraph(
        profile_id=str(graph.profile_id),
        nodes=nodes,
        links=[_link(link, graph) for link in graph.links],
        rulings=[_ruling(ruling, graph) for ruling in graph.rulings],
    )


def _link(link: Link, graph: Graph) -> pb.IdentityLink:
    refused = graph.refused.get((link.a, link.b))
    message = pb.IdentityLink(
        node_a=str(link.a),
        node_b=str(link.b),
        since=timestamp(moment_of(link.since_us)),
        event_id=link.event_id.hex(),
        refused=refused.value if refused else "",
    )
    if (evidence := graph.evidence.get(link.event_id)) is not None:
        message.event_timestamp.CopyFrom(timestamp(evidence.ts))
        message.source = evidence.source
    return message


def _ruling(ruling: Ruling, graph: Graph) -> pb.IdentityRuling:
    return pb.IdentityRuling(
        node_a=str(ruling.a),
        node_b=str(ruling.b),
        since=timestamp(moment_of(ruling.since_us)),
        event_id=ruling.event_id.hex(),
        kind="unmerged" if ruling.is_parted else "linked",
        in_force=ruling.event_id in graph.in_force,
    )


def _issue(row: IssueRow) -> pb.IdentityIssue:
    return pb.IdentityIssue(
        kind=row.kind.value,
        node_id=str(row.node_id),
        namespace=namespace_of(row.node_id).label,
        profile_id=str(row.profile_id),
        since=timestamp(row.since),
    )


def _rules(rules: Rules) -> pb.IdentityRules:
    return pb.IdentityRules(
        joining=_labels(sorted(rules.joining, key=lambda namespace: namespace.value)),
        blocked_count=len(rules.blocked),
        limits=[pb.IdentifierLimit(namespace=namespace.label, limit=limit) for namespace, limit in LIMITS.items()],
        max_identifiers=MAX_NODES,
        max_users_of_identifier=MAX_USERS,
    )


def _labels(namespaces: Sequence[Namespace]) -> list[str]:
    return [namespace.label for namespace in namespaces]


def _account(row: AccountRow) -> pb.Account:
    return pb.Account(
        account_id=str(row.account_id),
        kind=row.kind,
        traits=row.traits,
        first_seen=timestamp(row.first_seen),
        member_count=row.member_count,
        group_id=row.group_id,
    )
