"""Which rows are people's: what an export shows, and what an erasure deletes."""

from typing import Final

from chassis.subjects import Table

OF_PEOPLE: Final = (
    Table("segmentation.memberships"),
    Table("segmentation.traits"),
    Table("segmentation.dirty", ("node_id",)),
)
