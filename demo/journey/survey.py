"""How satisfied they are: the simulated customers that answer, answer through the API."""

import asyncio
from typing import Any

from demo.journey.traveller import Traveller, iso
from demo.simulator import Shop

SURVEY = "nps-1"


async def survey(traveller: Traveller, shop: Shop) -> None:
    """NPS with its interval, beside what all customers would have said."""
    record = traveller.record
    async with traveller.phase("survey", "Asking for satisfaction") as advance:
        if advance is None:
            return
        question = "How likely are you to recommend us to a friend or colleague?"
        await traveller.client.call("POST", "/v1/surveys", {"surveyId": SURVEY, "kind": "NPS", "question": question})
        answers = list(shop.answers())
        gate, done = asyncio.Semaphore(16), 0

        async def submit(answer: Any) -> None:
            nonlocal done
            body = {"ref": f"user_id:{answer.user_id}", "rating": answer.rating, "answered": iso(answer.answered)}
            if answer.comment:
                body["comment"] = answer.comment
            async with gate:
                await traveller.client.call("POST", f"/v1/surveys/{SURVEY}/answers", body)
            done += 1
            advance(len(answers), done)

        await asyncio.gather(*(submit(answer) for answer in answers))
        results = await traveller.client.call("GET", f"/v1/surveys/{SURVEY}/results")
        overall = results["overall"]
        record.put(nps__value=overall["value"], nps__low=overall["low"], nps__high=overall["high"])
        record.put(nps__answers=overall["answerCount"], nps__truth=shop.truth.nps)
        record.values["nps.segments"] = {
            each["segment"]: each["result"]["value"] for each in results["segments"] if each["result"].get("value") is not None
        }
        cases = await traveller.client.call("GET", "/v1/cases", params={"open": True, "limit": 1})
        record.put(cases__open=cases["openCount"])
