"""Which rows are people's: what an export shows, and what an erasure deletes."""

from typing import Final

from chassis.subjects import Table

OF_PEOPLE: Final = (
    Table("evaluation.assignments"),
    Table("evaluation.outcomes"),
    Table("evaluation.scores"),
    Table("evaluation.merged_profiles", ("profile_id", "into_id")),
)
