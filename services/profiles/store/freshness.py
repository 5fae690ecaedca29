"""How fresh the projections were, kept for after a restart."""

from chassis.db import Database


class FreshnessStore:
    """profiles.freshness."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, tenant_id: str, p50_s: float, p99_s: float) -> None:
        """Replaces what was known."""
        upsert = """
        INSERT INTO profiles.freshness (tenant_id, p50_s, p99_s) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id) DO UPDATE SET p50_s = $2, p99_s = $3, sampled_at = now()
        """
        async with self._database.connection() as connection:
            await connection.execute(upsert, tenant_id, p50_s, p99_s)

    async def find(self, tenant_id: str) -> tuple[float, float]:
        """(p50, p99) in seconds; zeros where nothing is known."""
        select = "SELECT p50_s, p99_s FROM profiles.freshness WHERE tenant_id = $1"
        async with self._database.connection() as connection:
            row = await connection.fetchrow(select, tenant_id)
        return (row["p50_s"], row["p99_s"]) if row else (0.0, 0.0)
