"""Which rows are people's: what an export shows, and what an erasure deletes."""

from typing import Final

from chassis.subjects import Table

OF_PEOPLE: Final = (
    Table(
        "scoring.scores",
        select="model, profile_id, version, probability, as_of, scored_at, convert_from(body, 'UTF8')::jsonb AS score",
    ),
)
