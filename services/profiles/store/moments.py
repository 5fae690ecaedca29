"""Times go to PostgreSQL and back as microseconds: exact, and much cheaper than datetimes in batches."""


def from_us(column: str) -> str:
    """SQL: a timestamptz of a bigint column. Exact for the years 1684 to 2255, and within 1 us far beyond."""
    return f"(timestamptz 'epoch' + {column} * interval '1 microsecond')"


def to_us(column: str) -> str:
    """SQL: the microseconds of a timestamptz; null for -infinity."""
    return f"CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint END"
