"""Events in: feeds a source, waits until it can be read, and checks that nothing is missing."""

from collections.abc import Callable, Container, Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

from demo.client import Fed
from demo.journey.traveller import Traveller
from demo.source import Call, Sums, write_rejected_rows
from infra.failure import Refusal

LAST_PHASE: Final = "segment"


async def feed(traveller: Traveller) -> None:
    """Every call of the source; what was not stored is remembered for the sums."""
    source, record = traveller.source, traveller.record
    async with traveller.phase("feed", f"Feeding {source.name}") as advance:
        if advance is None:
            if LAST_PHASE not in record.phases:
                _watch_again(traveller)
            return
        fed = await feed_calls(traveller, source.calls(), source.call_count, advance)
        record.put(events__accepted=fed.statuses["accepted"], events__duplicate=fed.statuses["duplicate"])
        record.put(events__rejected=fed.statuses["rejected"])
        put_freshness(traveller, await traveller.fresh())


async def feed_calls(
    traveller: Traveller, calls: Iterator[Call], total: int | None, advance: Callable[[int | None, int], None]
) -> Fed:
    """Sends calls and returns what the receipts said."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        advance(total, done)

    fed = await traveller.client.feed(traveller.watched.over(calls), traveller.write_key, step)
    refused = [complaint.message_id for complaint in fed.complaints]
    traveller.record.notes["refused"] = sorted({*traveller.record.notes.get("refused", []), *refused})
    return fed


def put_freshness(traveller: Traveller, freshness: dict[str, Any]) -> None:
    """Figures of the profiles' freshness."""
    traveller.record.put(
        profiles__count=freshness["profileCount"],
        profiles__identified=freshness["identifiedCount"],
        events__count=freshness["eventCount"],
        freshness__p50_s=freshness["p50Seconds"],
        freshness__p99_s=freshness["p99Seconds"],
        clock=freshness["now"],
    )


async def check_sums(traveller: Traveller) -> None:
    """Compares what went in with what the profiles' features say, to the penny. Raises Refusal where they differ."""
    record = traveller.record
    async with traveller.phase("sums", "Adding up the profiles") as advance:
        if advance is None:
            return
        sums = traveller.source.tally.sums(_AllBut(record.notes["refused"]))
        write_rejected_rows(traveller.facts.root / "rejected_rows.csv", traveller.source.tally)
        _put_sums(traveller, sums)
        known = anonymous = Decimal(0)
        ids = await _profile_ids(traveller)
        answers = await traveller.many("/v1/features:compute", list(ids), advance, features=["revenue_total", "refunds_total"])
        for row in (row for answer in answers for row in answer["rows"]):
            revenue, refunds = (Decimal(cell["value"] or 0) for cell in row["values"])
            if ids[row["profileId"]]:
                known += revenue - refunds
            else:
                anonymous += revenue - refunds
        record.put(money__profiles=format(known.normalize(), "f"), money__anonymous=format(anonymous.normalize(), "f"))
        rows_out = sums.rows_carried + sums.rows_refused + sums.rows_rejected.total()
        money_out = known + anonymous + sums.money_refused + sums.money_rejected
        if sums.rows_in != rows_out or sums.money_in != money_out:
            raise Refusal(
                f"The sums do not hold: rows in {sums.rows_in}, out {rows_out}; money in {sums.money_in}, out {money_out}."
            )
        record.put(sums__hold=True)


class _AllBut(Container[str]):
    """Every message id but these."""

    def __init__(self, refused: Iterable[str]) -> None:
        self._refused = frozenset(refused)

    def __contains__(self, message_id: object) -> bool:
        return message_id not in self._refused


async def _profile_ids(traveller: Traveller) -> dict[str, bool]:
    """Every profile, with whether a user id is known."""
    ids: dict[str, bool] = {}
    params: dict[str, Any] = {"limit": 1000}
    while True:
        page = await traveller.client.call("GET", "/v1/profiles", params=params)
        ids |= {profile["profileId"]: profile["identified"] for profile in page["data"]}
        if not page["hasMore"]:
            return ids
        params["next"] = page["next"]


def _put_sums(traveller: Traveller, sums: Sums) -> None:
    traveller.record.put(
        rows__in=sums.rows_in,
        rows__carried=sums.rows_carried,
        rows__refused=sums.rows_refused,
        rows__rejected=sums.rows_rejected.total(),
        money__in=str(sums.money_in),
        money__refused=str(sums.money_refused),
        money__rejected=str(sums.money_rejected),
    )
    reasons = {f"rows.rejected.{reason}": count for reason, count in sorted(sums.rows_rejected.items())}
    traveller.record.values |= reasons


def _watch_again(traveller: Traveller) -> None:
    """A journey that was interrupted needs to know again who there is, and what they carried."""
    for _ in traveller.watched.over(traveller.source.calls()):
        pass
