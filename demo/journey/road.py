"""The journey from the first event to the report."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.client import connect
from demo.journey.experiment import experiment
from demo.journey.facts import Facts
from demo.journey.feed import check_sums, feed
from demo.journey.model import judge, promote, score, train
from demo.journey.recommend import recommend
from demo.journey.record import open_record, write_json
from demo.journey.rollout import rollout
from demo.journey.segments import segment
from demo.journey.survey import survey
from demo.journey.traveller import Traveller
from demo.opening import open_source
from demo.report import show
from demo.simulator import Shop
from demo.source import Source
from services.gateway.administer import ensure_demo

NO_TRUTH = "this data has no {what}; the simulated shop has"


async def travel(facts: Facts, console: Console) -> dict[str, Any]:
    """Goes the whole road, or what is left of it, writes report.json, prints the screen, and returns the report."""
    started = time.monotonic()
    source = _source(facts)
    tenant = source.kind
    secrets = facts.root / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    keys = await ensure_demo(facts.gateway_database_url, facts.profiles_target, secrets / f"{tenant}.json", tenant=tenant)
    record = open_record(facts, tenant)
    recognised = bool(record.phases)
    async with connect(facts.gateway_url, keys.private_key) as client:
        traveller = Traveller(facts, source, tenant, client, keys.write_key, record, console)
        await feed(traveller)
        await train(traveller)
        await judge(traveller)
        await promote(traveller)
        await score(traveller)
        await recommend(traveller)
        if isinstance(source, Shop):
            await survey(traveller, source)
            await experiment(traveller, source)
            await rollout(traveller)
        else:
            _say_what_is_missing(traveller)
        await check_sums(traveller)
        await segment(traveller)
    record.put(source=source.name, tenant=tenant, recognised=recognised)
    record.values["seconds.total"] = round(
        sum(v for k, v in record.values.items() if k.startswith("seconds.") and k != "seconds.total"), 2
    )
    record.values["seconds.this_run"] = round(time.monotonic() - started, 2)
    write_json(facts.root / "report.json", record.values)
    show(record.values, console)
    return record.values


def _source(facts: Facts) -> Source:
    if facts.data:
        return open_source(Path(facts.data), Path(facts.mapping) if facts.mapping else None)
    return Shop(seed=facts.seed, customers=facts.customers)


def _say_what_is_missing(traveller: Traveller) -> None:
    traveller.record.miss("nps", NO_TRUTH.format(what="survey"))
    traveller.record.miss("experiment", NO_TRUTH.format(what="experiment"))
    traveller.record.miss("rollout", NO_TRUTH.format(what="rollout"))
