"""Which rows are people's: what an export shows, and what an erasure deletes."""

from collections.abc import Sequence
from uuid import UUID

from chassis.subjects import Row, Table
from services.feedback.clients import ProfilesClient


def tables_of_people(profiles: ProfilesClient) -> Sequence[Table]:
    """Comments are opened by profiles, which has the person's key."""

    async def opened(rows: Sequence[Row]) -> list[Row]:
        shown: list[Row] = []
        for row in rows:
            profile_id = UUID(row["profile_id"])
            sealed = bytes.fromhex(row.pop("sealed").removeprefix("\\x"))
            comments = await profiles.unseal({profile_id: sealed})
            shown.append(row | {"comment": comments.get(profile_id, "")})
        return shown

    return (
        Table("feedback.cases"),
        Table("feedback.answers", open=opened),
        Table("feedback.memberships"),
        Table("feedback.merged_profiles", ("profile_id", "into_id")),
    )
