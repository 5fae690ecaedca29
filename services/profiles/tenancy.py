"""The tenants that this process knows: their clock and their keys."""

import re
import time
from dataclasses import dataclass, field
from datetime import datetime

from chassis import context
from chassis.errors import CannotStart, Conflict, InvalidArgument, NotFound
from services.profiles.domain.clock import ClockKind, microseconds, tenant_now
from services.profiles.domain.identifiers import KeptRules, rules_of
from services.profiles.store.tenants import TenantStore
from services.profiles.vault import TenantKeys, Unreadable, Vault

_NAME = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant keeps its clock and its keys for ever; `rules` are kept up to date, see services.profiles.rules."""

    tenant_id: str
    clock: ClockKind
    keys: TenantKeys
    rules: KeptRules = field(default_factory=KeptRules, compare=False)


class Tenants:
    """Found in the database once, then remembered."""

    def __init__(self, store: TenantStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._known: dict[str, Tenant] = {}

    async def present(self) -> Tenant:
        """The tenant of the present call. Raises NotFound."""
        if (tenant := await self.find(context.tenant())) is None:
            raise NotFound("there is no such tenant", field="tenant")
        return tenant

    async def find(self, tenant_id: str) -> Tenant | None:
        """None where there is no such tenant."""
        if (tenant := self._known.get(tenant_id)) is None and _NAME.fullmatch(tenant_id):
            if (row := await self._store.find(tenant_id)) is None:
                return None
            keys, rules = self._vault.open_tenant(tenant_id, row.wrapped_key), KeptRules(rules_of(row.identity_rules))
            tenant = Tenant(tenant_id, row.clock, keys, rules)
            # Two calls may have come here at once: the first one's keys are in use.
            tenant = self._known.setdefault(tenant_id, tenant)
        return tenant

    def known(self) -> dict[str, Tenant]:
        """Those that were found before."""
        return dict(self._known)

    async def check_master_key(self) -> None:
        """Raises CannotStart where the master key is not the one that the stored keys are wrapped with."""
        if (tenant_id := await self._store.find_any()) is not None:
            try:
                await self.find(tenant_id)
            except Unreadable:
                raise CannotStart("the master key is not the one that this database's keys are wrapped with") from None

    async def create(self, tenant_id: str, clock: ClockKind) -> bool:
        """False: it was there already. Raises InvalidArgument for a bad name, Conflict where its clock is another one."""
        if not _NAME.fullmatch(tenant_id):
            raise InvalidArgument("a tenant's name is 1 to 40 of a-z, 0-9 and -", field="tenant_id")
        with context.use(tenant=tenant_id):
            created = await self._store.add(tenant_id, clock, self._vault.new_wrapped_key(tenant_id))
            tenant = None if created else await self.find(tenant_id)
        if tenant is not None and tenant.clock is not clock:
            raise Conflict(f"the tenant exists, and its clock is {tenant.clock.value}", field="clock")
        return created

    async def now_us(self, tenant: Tenant) -> int:
        """The tenant's present, in microseconds since the epoch."""
        newest = await self._store.newest(tenant.tenant_id) if tenant.clock is ClockKind.EVENTS else None
        return present_us(tenant.clock, newest)


def present_us(clock: ClockKind, newest: datetime | None) -> int:
    """What a tenant takes for now, in microseconds, where its newest event is of the time `newest`."""
    return tenant_now(clock, newest_us=None if newest is None else microseconds(newest), wall_us=time.time_ns() // 1_000)
