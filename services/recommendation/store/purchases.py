"""What a model is built from: read as arrays, since a row as Python objects would weigh ten times as much."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from chassis.db import Connection, Database
from services.recommendation.domain.model import SegmentBuyers
from services.recommendation.domain.pairs import Pairs, horizon_us

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# PostgreSQL counts from 2000.
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
_MICROSECOND: Final = timedelta(microseconds=1)

_SPAN: Final = """
SELECT min(bought_at) AS first, max(bought_at) AS newest FROM recommendation.purchases
WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR bought_at < $2 AND known_at <= $2)
"""

# $3: where the horizon begins. Every column is NOT NULL and of fixed width: see _ROW.
_PAIRS: Final = """
SELECT profile_id, item_no, count(*)::int4, max(bought_at),
    count(*) FILTER (WHERE bought_at < $3)::int4,
    COALESCE(max(bought_at) FILTER (WHERE bought_at < $3), '2000-01-01Z'::timestamptz),
    count(*) FILTER (WHERE bought_at >= $3)::int4
FROM recommendation.purchases
WHERE tenant_id = $1 AND bought_at < $2 AND ($4::timestamptz IS NULL OR known_at <= $4)
GROUP BY 1, 2 ORDER BY 1, 2
"""

# Of the 500 most bought of each segment, by its members then. $4 as above.
_IN_SEGMENTS: Final = """
SELECT segment, item_no, buyers FROM (
    SELECT stays.segment, bought.item_no, count(DISTINCT bought.profile_id) AS buyers,
        row_number() OVER (PARTITION BY stays.segment ORDER BY count(DISTINCT bought.profile_id) DESC, bought.item_no) AS place
    FROM recommendation.memberships AS stays
    JOIN recommendation.purchases AS bought ON bought.tenant_id = $1 AND bought.profile_id = stays.profile_id
    WHERE stays.tenant_id = $1 AND bought.bought_at < $2 AND bought.bought_at >= $3
        AND ($4::timestamptz IS NULL AND stays.exited_at IS NULL
            OR bought.known_at <= $4 AND stays.entered_at < $4 AND (stays.exited_at IS NULL OR stays.exited_at >= $4))
    GROUP BY 1, 2
) AS counted WHERE place <= 500 ORDER BY segment, place
"""

_VOLUMES: Final = "SELECT tenant_id, purchase_count FROM recommendation.volumes"
_VOLUME: Final = "SELECT purchase_count FROM recommendation.volumes WHERE tenant_id = $1"

# COPY's binary format: 19 bytes of header, then rows, each with its number of fields and each field with its length.
_HEADER_BYTES: Final = 19
_ROW: Final = np.dtype(
    [("fields", ">i2")]
    + [
        part
        for name, width, kind in (
            ("profile", 16, "(2,)>u8"),
            ("item", 4, ">i4"),
            ("orders", 4, ">i4"),
            ("last", 8, ">i8"),
            ("early_orders", 4, ">i4"),
            ("early_last", 8, ">i8"),
            ("later_orders", 4, ">i4"),
        )
        for part in ((f"{name}_{width}", ">i4"), (name, kind))
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a tenant's purchases before an instant say. `purchase_count` is the tenant's volume when it was read."""

    pairs: Pairs
    in_segments: SegmentBuyers
    purchase_count: int


class PurchaseStore:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def volumes(self) -> dict[str, int]:
        """How many purchases each tenant has had: it grows with every one."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_VOLUMES)
        return {row["tenant_id"]: row["purchase_count"] for row in rows}

    async def known(self, tenant_id: str, at: datetime | None) -> Known:
        """All that was bought, and known, before `at`; None: until now."""
        async with self._database.connection() as connection:
            volume = await connection.fetchval(_VOLUME, tenant_id) or 0
            [(first, newest)] = await connection.fetch(_SPAN, tenant_id, at)
            if newest is None:
                return Known(_pairs_of(b"", at or _EPOCH, timedelta(days=1)), SegmentBuyers([], _NONE, _NONE), volume)
            end = at or newest + _MICROSECOND
            horizon = timedelta(microseconds=horizon_us(_microseconds(first), _microseconds(end)))
            copied = await _copy(connection, _PAIRS, tenant_id, end, end - horizon, at)
            rows = await connection.fetch(_IN_SEGMENTS, tenant_id, end, end - timedelta(days=365), at)
        in_segments = SegmentBuyers(
            [row["segment"] for row in rows],
            np.array([row["item_no"] for row in rows], np.int64),
            np.array([row["buyers"] for row in rows], np.int64),
        )
        return Known(_pairs_of(copied, end, horizon), in_segments, volume)


_NONE: Final = np.zeros(0, np.int64)


async def _copy(connection: Connection, query: str, *arguments: object) -> bytes:
    """The rows of a query in COPY's binary format, without header and trailer."""
    chunks: list[bytes] = []

    async def take(chunk: bytes) -> None:
        chunks.append(chunk)

    await connection.copy_from_query(query, *arguments, output=take, format="binary")
    return b"".join(chunks)[_HEADER_BYTES:-2]


def _pairs_of(copied: bytes, end: datetime, horizon: timedelta) -> Pairs:
    rows: Any = np.frombuffer(copied, _ROW)
    numbers, item = np.unique(rows["item"].astype(np.int64), return_inverse=True)
    changed = np.any(rows["profile"][1:] != rows["profile"][:-1], axis=1)
    customer = np.concatenate((np.zeros(min(1, len(rows)), np.int32), np.cumsum(changed, dtype=np.int32)))
    return Pairs(
        at_us=_microseconds(end),
        horizon_us=horizon // _MICROSECOND,
        item_numbers=numbers,
        customer=customer,
        item=item.astype(np.int32),
        orders=rows["orders"].astype(np.int32),
        last_us=rows["last"].astype(np.int64) + _POSTGRES_EPOCH_US,
        early_orders=rows["early_orders"].astype(np.int32),
        early_last_us=rows["early_last"].astype(np.int64) + _POSTGRES_EPOCH_US,
        again=rows["later_orders"] > 0,
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
