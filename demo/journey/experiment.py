"""Does the retention action work: half of those at risk get it, the simulated customers react, the effect is measured."""

from typing import Any

from demo.journey.feed import feed_calls, put_freshness
from demo.journey.traveller import Traveller
from demo.simulator import Shop

EXPERIMENT = "retention-offer"
WINDOW_DAYS = 60
ENROLLED = 800
TREATMENT = "offer"


async def experiment(traveller: Traveller, shop: Shop) -> None:
    """Enrols those with the highest risk, gives their real assignments to the shop, and feeds what it then does."""
    record = traveller.record
    async with traveller.phase("experiment", "Running the experiment") as advance:
        if advance is None:
            if "sums" not in record.phases:
                for _ in shop.future(record.notes.get("treated", {})):
                    pass
            return
        if not record.notes["risk"]:
            record.miss("experiment", "nobody was scored, so nobody is known to be at risk")
            return
        await traveller.client.call("POST", "/v1/experiments", _definition())
        refs = sorted(record.notes["risk"], key=lambda ref: -record.notes["risk"][ref])[:ENROLLED]
        answers = await traveller.many(f"/v1/experiments/{EXPERIMENT}/assignments", refs, advance)
        variants = [each["variant"] for answer in answers for each in answer["assignments"]]
        await traveller.many(f"/v1/experiments/{EXPERIMENT}/exposures", refs, advance)
        users = [ref.removeprefix("user_id:") for ref in refs]
        assigned = dict(zip(users, variants, strict=True))
        treated = {user: variant == TREATMENT for user, variant in assigned.items()}
        record.notes["treated"] = treated
        later = list(shop.future(treated))
        fed = await feed_calls(traveller, iter(later), len(later), advance)
        record.values["events.accepted"] += fed.statuses["accepted"]
        record.values["events.duplicate"] += fed.statuses["duplicate"]
        put_freshness(traveller, await traveller.fresh())
        _put(traveller, await _results(traveller, len(refs)), shop.truth.effect(users, window_days=WINDOW_DAYS))


def _definition() -> dict[str, Any]:
    return {
        "experimentId": EXPERIMENT,
        "hypothesis": "An offer to customers at risk brings more of them back within 60 days.",
        "variants": [{"key": "control", "share": 0.5}, {"key": TREATMENT, "share": 0.5}],
        "outcomeEvent": "Order Completed",
        "outcomeWindowDays": WINDOW_DAYS,
        "margin": 0.02,
    }


async def _results(traveller: Traveller, enrolled: int) -> dict[str, Any]:
    async def ask() -> dict[str, Any] | None:
        results = await traveller.client.call("GET", f"/v1/experiments/{EXPERIMENT}/results")
        return results if sum(variant["judgedCount"] for variant in results["variants"]) >= enrolled else None

    await traveller.until("evaluation to judge every enrolled customer", ask)

    # The orders may still be on their way to evaluation after its clock has moved: two equal answers settle it.
    seen: list[Any] = [None]

    async def settled() -> dict[str, Any] | None:
        results = await ask()
        same = results is not None and results["variants"] == seen[0]
        seen[0] = results and results["variants"]
        return results if same else None

    return await traveller.until("evaluation to have read every order", settled)


def _put(traveller: Traveller, results: dict[str, Any], truth: float) -> None:
    record = traveller.record
    for key in ("effect", "low", "high", "verdict", "explanation", "sampleRatioP"):
        record.values[f"experiment.{key}"] = results.get(key)
    record.put(experiment__truth=round(truth, 4), experiment__variants=results["variants"])
    if results.get("effect") is None:
        record.miss("experiment.effect", results["explanation"])
