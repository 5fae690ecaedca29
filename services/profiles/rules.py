"""A tenant's own rules of identity: read when it is first met, and again every few seconds."""

import asyncio
from collections.abc import Sequence
from typing import Final

from chassis.errors import InvalidArgument, Unavailable
from services.profiles.domain.identifiers import MAX_BLOCKED, OPTIONAL, Identifier, Rules, normalised, rules_of, rules_text
from services.profiles.domain.identity import Namespace
from services.profiles.store.identities import IdentityStore
from services.profiles.tenancy import Tenant, Tenants

REFRESH_S: Final = 2.0
_BY_LABEL: Final = {namespace.label: namespace for namespace in Namespace}


class IdentityRules:
    """Reads and writes them."""

    def __init__(self, store: IdentityStore, tenants: Tenants) -> None:
        self._store = store
        self._tenants = tenants

    async def of(self, tenant: Tenant) -> Rules:
        """As stored."""
        tenant.rules.now = rules_of(await self._store.rules(tenant.tenant_id))
        return tenant.rules.now

    async def update(self, tenant: Tenant, joining: Sequence[str], blocked: Sequence[Identifier]) -> Rules:
        """In the place of what was there. Raises InvalidArgument."""
        wanted = [namespace_of_label(label, f"joining[{index}]") for index, label in enumerate(joining)]
        for index, namespace in enumerate(wanted):
            if namespace not in OPTIONAL:
                raise InvalidArgument("user ids and anonymous ids always join", field=f"joining[{index}]")
        if len(blocked) > MAX_BLOCKED:
            raise InvalidArgument(f"at most {MAX_BLOCKED} values are blocked", field="blocked")
        nodes = {tenant.keys.node_id(namespace, value) for namespace, value in blocked}
        await self._store.save_rules(tenant.tenant_id, rules_text(Rules(frozenset(wanted), frozenset(nodes))))
        return await self.of(tenant)

    async def follow(self) -> None:
        """Runs for ever: what another process changed counts here within seconds."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except Unavailable:
                continue

    async def refresh(self) -> None:
        """Of all tenants that this process knows."""
        known = self._tenants.known()
        if known:
            found = await self._store.rules_of(list(known))
            for tenant_id, tenant in known.items():
                tenant.rules.now = rules_of(found.get(tenant_id))


def namespace_of_label(label: str, field: str) -> Namespace:
    """Raises InvalidArgument."""
    if label not in _BY_LABEL:
        raise InvalidArgument(f"{field} is none of {', '.join(_BY_LABEL)}", field=field)
    return _BY_LABEL[label]


def identifier_of(namespace: str, value: str, field: str) -> Identifier:
    """As it is compared. Raises InvalidArgument; the message does not repeat the value."""
    kind = namespace_of_label(namespace, f"{field}.namespace")
    if not (text := normalised(kind, value)):
        hint = {Namespace.PHONE: " with + and its country's prefix", Namespace.EMAIL: " like ada@example.com"}.get(kind, "")
        raise InvalidArgument(f"{field}.value is no {kind.label}{hint}, of at most 255 characters", field=f"{field}.value")
    return kind, text
