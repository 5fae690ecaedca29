"""Which rows are people's: what an export shows, and what an erasure deletes."""

from typing import Final

from chassis.subjects import Table

OF_PEOPLE: Final = (
    Table("recommendation.purchases"),
    Table("recommendation.spending"),
    Table("recommendation.memberships"),
    Table("recommendation.scores"),
    Table("recommendation.merges", ("node_id", "profile_id")),
)
