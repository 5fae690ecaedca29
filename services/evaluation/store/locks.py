"""What keeps a merge of profiles and a write by profile apart: else a row could be written under an id that is just going."""

from chassis.db import Connection

_KEY = "hashtextextended('evaluation.profiles:' || $1, 0)"


async def share_profiles(connection: Connection, tenant: str) -> None:
    """Until the transaction ends, no profiles of the tenant are merged here."""
    await connection.execute(f"SELECT pg_advisory_xact_lock_shared({_KEY})", tenant)


async def change_profiles(connection: Connection, tenant: str) -> None:
    """Until the transaction ends, nobody else writes by profile."""
    await connection.execute(f"SELECT pg_advisory_xact_lock({_KEY})", tenant)
