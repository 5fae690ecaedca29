"""Keys of people, loaded when they are needed, and texts sealed for other services."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.errors import InvalidArgument, NotFound, Reason
from services.profiles.store.log import LogStore
from services.profiles.store.profiles import ProfileStore
from services.profiles.tenancy import Tenant
from services.profiles.vault import Unreadable, open_sealed, seal

# The first byte of a sealed text; then the node whose key it is, since profiles merge and keys do not.
_FORMAT: Final = b"\x01"
_HEAD_BYTES: Final = 17


class People:
    """Everybody's keys."""

    def __init__(self, keys: LogStore, profiles: ProfileStore) -> None:
        self._keys = keys
        self._profiles = profiles

    async def ciphers(self, tenant: Tenant, node_ids: Collection[UUID]) -> dict[UUID, AESGCM]:
        """The keys of those who have one."""
        found = tenant.keys.cached(node_ids)
        if missing := [node_id for node_id in node_ids if node_id not in found]:
            stored = await self._keys.keys(tenant.tenant_id, missing)
            loaded = {node_id: tenant.keys.unwrap(node_id, wrapped) for node_id, wrapped in stored.items()}
            tenant.keys.remember(loaded)
            found |= loaded
        return found

    async def seal(self, tenant: Tenant, profile_id: UUID, plaintexts: Sequence[bytes]) -> list[bytes]:
        """Each text sealed under the person's key. Raises NotFound."""
        node_id = (await self._profiles.resolve(tenant.tenant_id, [profile_id])).get(profile_id)
        if node_id is None:
            raise unknown_profile("profile_id")
        cipher = await self._ensured(tenant, node_id)
        head = _FORMAT + node_id.bytes
        return [head + seal(cipher, plain, tenant.keys.of_text(node_id)) for plain in plaintexts]

    async def _ensured(self, tenant: Tenant, node_id: UUID) -> AESGCM:
        """The key of a node; one that has no events of its own gets it now."""
        if (cipher := (await self.ciphers(tenant, [node_id])).get(node_id)) is None:
            wrapped, _ = tenant.keys.new_wrapped_key(node_id)
            await self._keys.append(tenant.tenant_id, [], {node_id: wrapped}, lambda _: [])
            cipher = (await self.ciphers(tenant, [node_id]))[node_id]
        return cipher

    async def unseal(self, tenant: Tenant, profile_id: UUID, sealed: Sequence[bytes]) -> list[bytes]:
        """Each text, empty where its key is gone. Raises NotFound; InvalidArgument for what is not sealed for this person."""
        heads = [_head(text, index) for index, text in enumerate(sealed)]
        profiles = await self._profiles.resolve(tenant.tenant_id, [profile_id, *heads])
        if profile_id not in profiles:
            raise unknown_profile("profile_id")
        for index, node_id in enumerate(heads):
            if profiles.get(node_id) != profiles[profile_id]:
                raise _foreign(index)
        ciphers = await self.ciphers(tenant, set(heads))
        plaintexts: list[bytes] = []
        for index, (node_id, text) in enumerate(zip(heads, sealed, strict=True)):
            try:
                cipher = ciphers.get(node_id)
                bound = tenant.keys.of_text(node_id)
                plaintexts.append(open_sealed(cipher, text[_HEAD_BYTES:], bound) if cipher else b"")
            except Unreadable:
                raise _foreign(index) from None
        return plaintexts


def unknown_profile(field: str) -> NotFound:
    """Nobody is known by this reference."""
    return NotFound("nobody is known by this reference", reason=Reason.UNKNOWN_PROFILE, field=field)


def _head(text: bytes, index: int) -> UUID:
    if len(text) <= _HEAD_BYTES or not text.startswith(_FORMAT):
        raise _foreign(index)
    return UUID(bytes=text[1:_HEAD_BYTES])


def _foreign(index: int) -> InvalidArgument:
    field = f"sealed[{index}]"
    return InvalidArgument(f"{field} was not sealed for this person, or was changed", field=field)
