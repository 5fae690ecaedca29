"""A profiles service of our own, for one process: people with keys, answered over real gRPC."""

import hashlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from rapport.profiles.v1 import profiles_pb2 as pb
from rapport.profiles.v1 import profiles_pb2_grpc

from chassis import context
from chassis.errors import NotFound, Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class People(profiles_pb2_grpc.ProfilesServicer):
    """Keeps keys by tenant and person. A sealed text is turned over with the key, and names whose it is."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.became: dict[str, dict[str, str]] = defaultdict(dict)
        self.facts: dict[str, list[pb.Fact]] = defaultdict(list)
        self.now = NOW
        self.at_once = self.most_at_once = 0

    def add(self, tenant: str) -> str:
        profile_id = str(uuid4())
        self.keys[tenant][profile_id] = hashlib.sha256(profile_id.encode()).digest()
        return profile_id

    def erase(self, tenant: str, profile_id: str) -> None:
        """The key is gone, the profile is still known."""
        self.keys[tenant][profile_id] = b""

    def _known(self, profile_id: str) -> str:
        tenant = context.tenant()
        profile_id = self.became[tenant].get(profile_id, profile_id)
        return profile_id if profile_id in self.keys[tenant] else ""

    async def ResolveProfiles(self, request: pb.ResolveProfilesRequest, call: Any) -> pb.ResolveProfilesResponse:
        return pb.ResolveProfilesResponse(profile_ids=[self._known(ref) for ref in request.refs])

    async def GetFreshness(self, request: Any, call: Any) -> pb.GetFreshnessResponse:
        answer = pb.GetFreshnessResponse()
        answer.now.FromDatetime(self.now)
        return answer

    async def Seal(self, request: pb.SealRequest, call: Any) -> pb.SealResponse:
        owner = self._known(request.profile_id)
        if not owner:
            raise NotFound("nobody", reason=Reason.UNKNOWN_PROFILE)
        key = self.keys[context.tenant()][owner]
        return pb.SealResponse(sealed=[owner.encode() + _turned(text, key) for text in request.plaintexts])

    async def Unseal(self, request: pb.UnsealRequest, call: Any) -> pb.UnsealResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self._known(request.profile_id):
                raise NotFound("nobody", reason=Reason.UNKNOWN_PROFILE)
            return pb.UnsealResponse(plaintexts=[self._opened(text) for text in request.sealed])
        finally:
            self.at_once -= 1

    def _opened(self, sealed: bytes) -> bytes:
        key = self.keys[context.tenant()][sealed[:36].decode()]
        return _turned(sealed[36:], key) if key else b""

    async def Ingest(self, request: pb.IngestRequest, call: Any) -> pb.IngestResponse:
        answer = pb.IngestResponse()
        known = self.facts[context.tenant()]
        for fact in request.facts:
            is_new = fact.message_id not in {each.message_id for each in known}
            known += [fact] if is_new else []
            status = pb.RECEIPT_STATUS_ACCEPTED if is_new else pb.RECEIPT_STATUS_DUPLICATE
            answer.facts.add(message_id=fact.message_id, status=status)
        return answer


def _turned(text: bytes, key: bytes) -> bytes:
    stream = (key * (len(text) // len(key) + 1))[: len(text)]
    return bytes(one ^ other for one, other in zip(text, stream, strict=True))
