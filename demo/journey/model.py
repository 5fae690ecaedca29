"""A model from the log, judged on what it scored through the API, promoted on that judgement, then used."""

import asyncio
from pathlib import Path
from typing import Any, Final

from chassis.errors import Error
from demo.client import ClientError
from demo.journey.traveller import MODEL, Traveller

# So many in a row come from every replica: each follows a promotion in its own time.
ANSWERS: Final = 10
# Why evaluation may refuse a version; the journey then goes on without a champion.
REFUSALS: Final = frozenset({"NOT_EVALUATED", "LOSES_TO_BASELINE"})


async def train(traveller: Traveller) -> None:
    """Exports the log, trains on it, registers a version; or says why there is too little to train on."""
    record = traveller.record
    async with traveller.phase("train", "Training the churn model") as advance:
        if advance is None:
            return
        exported = await traveller.client.call("POST", "/v1/exports", {})
        try:
            published = await asyncio.to_thread(_train, traveller, exported["path"])
        except Error as error:
            record.notes |= {"version": None, "as_of": None, "risk": {}}
            record.miss("churn", error.message)
            return
        record.notes |= {"version": published.version, "as_of": published.judged_at}
        record.put(churn__model_name=published.registered_name, churn__model_version=published.version)
        record.put(churn__digest=published.digest, churn__feature_digest=published.feature_digest)
        record.put(churn__as_of=published.judged_at)


def _train(traveller: Traveller, archive: str) -> Any:
    # Imported where it is used: seconds, and 200 MB that only this phase needs.
    from ml.training.churn import train_and_register

    return train_and_register(Path(archive), tenant=traveller.tenant, mlflow_url=traveller.facts.mlflow_url)


async def judge(traveller: Traveller) -> None:
    """Scores everybody with the new version as of the judged time, and compares with what they did next."""
    record = traveller.record
    async with traveller.phase("judge", "Judging it on 90 days that it has not seen") as advance:
        if advance is None or not record.notes["version"]:
            return
        version, as_of = record.notes["version"], record.notes["as_of"]
        answers = await traveller.many(
            "/v1/scores:batch", traveller.user_refs(), advance, model=MODEL, version=version, at=as_of
        )
        scored = sum(1 for answer in answers for result in answer["results"] if result.get("score"))

        async def ask() -> dict[str, Any] | None:
            body = {"version": version, "asOf": as_of}
            evaluation = await traveller.client.call("POST", f"/v1/models/{MODEL}/evaluations", body)
            return evaluation if evaluation["rowCount"] >= scored else None

        evaluation = await traveller.until("evaluation to see all scores and orders", ask)
        _put_evaluation(traveller, evaluation)


def _put_evaluation(traveller: Traveller, evaluation: dict[str, Any]) -> None:
    names = {
        "rate": "rate", "auc": "auc", "auc_low": "aucLow", "auc_high": "aucHigh", "ece": "ece",
        "auc_recent": "aucRecent", "ece_recent": "eceRecent", "recency_auc": "recencyAuc",
        "recency_auc_recent": "recencyAucRecent", "logistic_auc": "logisticAuc", "logistic_auc_recent": "logisticAucRecent",
        "lift": "lift", "lift_low": "liftLow", "lift_high": "liftHigh", "rows": "rowCount", "rows_recent": "recentCount",
        "verdict": "verdict", "explanation": "explanation", "bins": "bins",
    }  # fmt: skip
    for key, name in names.items():
        if evaluation.get(name) is None:
            traveller.record.miss(f"churn.{key}", evaluation.get("explanation") or "not enough data")
        else:
            traveller.record.values[f"churn.{key}"] = evaluation[name]


async def promote(traveller: Traveller) -> None:
    """Makes the version champion where its evaluation allows it, and waits until scoring serves it."""
    record = traveller.record
    async with traveller.phase("promote", "Promoting it") as advance:
        if advance is None or not (version := record.notes["version"]):
            return
        body = {"version": version, "reason": "judged on 90 days that it had not seen"}
        try:
            await traveller.client.call("POST", f"/v1/models/{MODEL}:promote", body)
        except ClientError as error:
            if error.code not in REFUSALS:
                raise
            record.miss("churn.alias", str(error))
            return

        async def ask() -> dict[str, Any] | None:
            answers = [await _serving(traveller) for _ in range(ANSWERS)]
            return answers[-1] if all(each and each["version"] == version for each in answers) else None

        serving = await traveller.until("scoring to serve the promoted version", ask)
        record.put(churn__alias=serving["alias"], churn__served_digest=serving["digest"])


async def _serving(traveller: Traveller) -> dict[str, Any] | None:
    """What the replica that is asked serves; None before the first promotion."""
    try:
        return await traveller.client.call("GET", f"/v1/models/{MODEL}/serving")
    except ClientError as error:
        if error.status != 404:
            raise
        return None


async def score(traveller: Traveller) -> None:
    """Everybody's risk as of the newest event."""
    record = traveller.record
    async with traveller.phase("score", "Scoring every customer") as advance:
        if advance is None:
            return
        answers = await traveller.many("/v1/scores:batch", traveller.user_refs(), advance, model=MODEL)
        results = [result for answer in answers for result in answer["results"]]
        scores = {result["ref"]: result["score"]["probability"] for result in results if result.get("score")}
        record.put(scores__count=len(scores), scores__not_scored=len(results) - len(scores))
        record.notes["risk"] = scores
        distribution = await traveller.client.call("GET", "/v1/scores/distribution", params={"model": MODEL})
        if not scores:
            record.miss("scores", next((result["notScored"]["message"] for result in results), "nobody to score"))
        record.put(scores__bins=distribution["binCounts"], scores__mean=distribution["meanProbability"])
