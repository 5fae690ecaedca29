"""From a reference to a profile: now, or as it was known at an instant."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.errors import InvalidArgument
from services.profiles.domain import refs
from services.profiles.people import unknown_profile
from services.profiles.store.profiles import Person, ProfileRow, ProfileStore
from services.profiles.tenancy import Tenant

MAX_REFS: Final = 1_000


class Lookup:
    """References are hashed here; the identifiers themselves are never looked up."""

    def __init__(self, store: ProfileStore) -> None:
        self._store = store

    async def many(self, tenant: Tenant, given: Sequence[str]) -> list[UUID | None]:
        """The profile of each reference in order, None where nobody is known by it. Raises InvalidArgument."""
        node_ids = nodes_of(tenant, given)
        found = await self._store.resolve(tenant.tenant_id, node_ids)
        return [found.get(node_id) for node_id in node_ids]

    async def one(self, tenant: Tenant, ref: str, *, at: datetime | None = None) -> UUID:
        """The profile. Raises NotFound, or InvalidArgument."""
        node_id = node_of(tenant, ref, "ref")
        if at is None:
            found = await self._store.resolve(tenant.tenant_id, [node_id])
        else:
            found = await self._store.resolve_at(tenant.tenant_id, [node_id], at)
        if node_id not in found:
            raise unknown_profile("ref")
        return found[node_id]

    async def person(self, tenant: Tenant, ref: str, *, at: datetime | None = None) -> Person:
        """The profile and its nodes. Raises NotFound, or InvalidArgument."""
        node_id = node_of(tenant, ref, "ref")
        if at is None:
            found = await self._store.person(tenant.tenant_id, node_id)
        else:
            found = await self._store.person_at(tenant.tenant_id, node_id, at)
        if found is None:
            raise unknown_profile("ref")
        return found

    async def profile(self, tenant: Tenant, ref: str) -> ProfileRow:
        """Raises NotFound, or InvalidArgument."""
        row = await self._store.of_node(tenant.tenant_id, node_of(tenant, ref, "ref"))
        if row is None:
            raise unknown_profile("ref")
        return row

    async def profiles(self, tenant: Tenant, given: Sequence[str]) -> list[ProfileRow | None]:
        """The profile of each reference in order, None where nobody is known by it. Raises InvalidArgument."""
        node_ids = nodes_of(tenant, given)
        found = await self._store.of_nodes(tenant.tenant_id, node_ids)
        return [found.get(node_id) for node_id in node_ids]


def nodes_of(tenant: Tenant, given: Sequence[str]) -> list[UUID]:
    """The node that each reference names. Raises InvalidArgument."""
    if len(given) > MAX_REFS:
        raise InvalidArgument(f"at most {MAX_REFS} references at a time", field="refs")
    return [node_of(tenant, ref, f"refs[{index}]") for index, ref in enumerate(given)]


def node_of(tenant: Tenant, ref: str, field: str) -> UUID:
    """The node that a reference names. Raises InvalidArgument."""
    parsed = refs.parse(ref, field=field)
    return parsed if isinstance(parsed, UUID) else tenant.keys.node_id(*parsed)
