"""Who is who, as the gateway knows it of profiles: it remembers what it was told."""

from typing import Any

from rapport.profiles.v1 import identities_pb2 as pb
from rapport.profiles.v1.identities_pb2_grpc import IdentitiesServicer

from tests.integration.gateway.stand_ins import CASE_ID, stamp


class Identities(IdentitiesServicer):
    """One profile, CASE_ID, that has everything."""

    def __init__(self) -> None:
        self.rules = pb.IdentityRules(max_identifiers=100, max_users_of_identifier=5)
        self.told: list[Any] = []

    async def LookupProfiles(self, request: Any, context: object) -> pb.LookupProfilesResponse:
        return pb.LookupProfilesResponse(
            profile_ids=[CASE_ID if each.value == "ada@example.com" else "" for each in request.identifiers]
        )

    async def GetIdentityGraph(self, request: Any, context: object) -> pb.IdentityGraph:
        personal = "ada@example.com" if request.with_personal else ""
        node = pb.IdentityNode(node_id=CASE_ID, namespace="email", first_seen=stamp(), since=stamp(), personal=personal)
        link = pb.IdentityLink(node_a=CASE_ID, node_b=CASE_ID, since=stamp(), event_id="0a", source="web", refused="unmerged")
        ruling = pb.IdentityRuling(node_a=CASE_ID, node_b=CASE_ID, since=stamp(), kind="unmerged", in_force=True)
        return pb.IdentityGraph(profile_id=CASE_ID, nodes=[node], links=[link], rulings=[ruling])

    async def LinkProfiles(self, request: Any, context: object) -> pb.LinkProfilesResponse:
        self.told.append(request)
        return pb.LinkProfilesResponse(profile_id=CASE_ID)

    async def UnmergeProfile(self, request: Any, context: object) -> pb.UnmergeProfileResponse:
        self.told.append(request)
        return pb.UnmergeProfileResponse(profile_id=CASE_ID, parted_profile_id=CASE_ID)

    async def ListIdentityIssues(self, request: Any, context: object) -> pb.ListIdentityIssuesResponse:
        issue = pb.IdentityIssue(kind="shared", node_id=CASE_ID, namespace="device_id", profile_id=CASE_ID, since=stamp())
        return pb.ListIdentityIssuesResponse(issues=[issue], next_page_token="more")

    async def GetIdentityRules(self, request: Any, context: object) -> pb.IdentityRules:
        return self.rules

    async def UpdateIdentityRules(self, request: Any, context: object) -> pb.IdentityRules:
        self.rules.joining[:] = request.joining
        self.rules.blocked_count = len(request.blocked)
        return self.rules

    async def ListAccounts(self, request: Any, context: object) -> pb.ListAccountsResponse:
        return pb.ListAccountsResponse(accounts=[_account(request.kind or "account")])

    async def GetAccount(self, request: Any, context: object) -> pb.Account:
        return _account("account", request.ref)

    async def ListAccountMembers(self, request: Any, context: object) -> pb.ListAccountMembersResponse:
        return pb.ListAccountMembersResponse(members=[pb.AccountMember(profile_id=CASE_ID, since=stamp())])

    async def ListProfileAccounts(self, request: Any, context: object) -> pb.ListProfileAccountsResponse:
        account = pb.AccountOfProfile(account_id=CASE_ID, kind="household", since=stamp(), group_id="flat 4")
        return pb.ListProfileAccountsResponse(accounts=[account])


def _account(kind: str, group_id: str = "acme") -> pb.Account:
    return pb.Account(
        account_id=CASE_ID, kind=kind, group_id=group_id, traits=b'{"industry":"mugs"}', first_seen=stamp(), member_count=2
    )
