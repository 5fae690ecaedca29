"""The overview: is what we see fresh, who is there, who may leave, what they say, and what has worked."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rapport.evaluation.v1 import evaluation_pb2
from rapport.feedback.v1 import feedback_pb2
from rapport.profiles.v1 import profiles_pb2
from rapport.scoring.v1 import scoring_pb2
from rapport.segmentation.v1 import segmentation_pb2

from chassis.errors import NotFound
from services.gateway.clients import Services
from services.gateway.console.asking import Block, ask, ask_all
from services.gateway.console.pages import View, Visit
from services.gateway.console.scales import Scale, around
from services.gateway.wire import plain

MODEL: Final = "churn"
# Each costs a call, so only the newest are judged for the page.
EXPERIMENTS_SHOWN: Final = 5
PROMOTIONS_SHOWN: Final = 6
LIFE_CYCLE: Final = ("potential", "new", "active", "lost")

Fields = dict[str, Any]


async def show(visit: Visit) -> View:
    """The page."""
    services = visit.services
    blocks = await ask_all(
        visit,
        freshness=_freshness(services),
        segments=_segments(services),
        risk=_risk(services),
        serving=_serving(services),
        evaluations=_evaluations(services),
        promotions=_promotions(services),
        survey=_survey(services),
        cases=_open_cases(services),
        experiments=_experiments(services),
    )
    judged = _judged(blocks["evaluations"], blocks["serving"])
    values = {"judged": judged, "promoted": _promoted(blocks), "segment_names": _names(blocks["segments"])}
    return View("overview.html", {**blocks, **values})


async def show_freshness(visit: Visit) -> View:
    """Only the figures that change from second to second."""
    return View("overview/freshness.html", {"freshness": await ask(visit, _freshness(visit.services))})


async def _freshness(services: Services) -> Fields:
    return plain(await services.profiles.GetFreshness(profiles_pb2.GetFreshnessRequest()))


async def _segments(services: Services) -> Fields:
    """Segments by family, the life cycle in its own order, the others from the largest."""
    answer = await services.segmentation.ListSegments(segmentation_pb2.ListSegmentsRequest())
    families: dict[str, list[Fields]] = {"life_cycle": [], "rfm": [], "custom": []}
    for segment in answer.segments:
        families.setdefault(segment.family, []).append(plain(segment))
    for segments in families.values():
        segments.sort(key=lambda segment: -segment["member_count"])
    families["life_cycle"].sort(key=lambda segment: _place(segment["key"]))
    shown: Fields = {
        family: {
            "segments": segments,
            "most": max((segment["member_count"] for segment in segments), default=0),
            "total": sum(segment["member_count"] for segment in segments),
        }
        for family, segments in families.items()
    }
    shown["refreshed"] = max(
        (each["refreshed"] for all_of in families.values() for each in all_of if each["refreshed"]), default=None
    )
    return shown


def _place(key: str) -> int:
    return LIFE_CYCLE.index(key) if key in LIFE_CYCLE else len(LIFE_CYCLE)


def _names(segments: Block[Any]) -> Mapping[str, str]:
    """What segments are called, by key, as far as it is known."""
    families = [segments.value[family]["segments"] for family in ("life_cycle", "rfm", "custom")] if segments.value else []
    return {segment["key"]: segment["name"] for family in families for segment in family}


async def _risk(services: Services) -> Fields | None:
    """None: nobody is scored."""
    request = scoring_pb2.GetScoreDistributionRequest(model=MODEL)
    answer = await services.scoring.GetScoreDistribution(request)
    return plain(answer) if answer.profile_count else None


async def _serving(services: Services) -> Fields | None:
    """None: no model is promoted."""
    try:
        return plain(await services.scoring.GetServingModel(scoring_pb2.GetServingModelRequest(model=MODEL)))
    except NotFound:
        return None


async def _evaluations(services: Services) -> list[Fields]:
    answer = await services.evaluation.ListModelEvaluations(evaluation_pb2.ListModelEvaluationsRequest(model=MODEL))
    return sorted((plain(each) for each in answer.evaluations), key=lambda each: str(each["evaluated"]), reverse=True)


def _judged(evaluations: Block[Any], serving: Block[Any]) -> Block[Fields]:
    """The last evaluation of the model that serves; of another version where that one has none."""
    if not evaluations.value:
        return Block(trouble=evaluations.trouble)
    version = serving.value["version"] if serving.value else None
    found = next((each for each in evaluations.value if each["version"] == version), evaluations.value[0])
    figures = [found[name] for name in ("auc", "auc_low", "auc_high", "recency_auc", "logistic_auc")]
    return Block(
        found
        | {
            "scale": Scale(min(0.5, *(each for each in figures if each is not None)), 1.0),
            "serves": found["version"] == version,
        }
    )


async def _promotions(services: Services) -> list[Fields]:
    answer = await services.evaluation.ListPromotions(evaluation_pb2.ListPromotionsRequest(model=MODEL))
    return [plain(each) for each in answer.promotions[:PROMOTIONS_SHOWN]]


def _promoted(blocks: Mapping[str, Block[Any]]) -> datetime | None:
    """When the model that serves was promoted, by evaluation's record: what scoring knows is in the tenant's time."""
    serving, promotions = blocks["serving"].value, blocks["promotions"].value
    if not serving or not promotions:
        return None
    return next((each["promoted"] for each in promotions if each["to_version"] == serving["version"]), None)


async def _survey(services: Services) -> Fields | None:
    """The newest NPS survey with its results; None where there is no such survey."""
    answer = await services.feedback.ListSurveys(feedback_pb2.ListSurveysRequest())
    surveys = [each for each in answer.surveys if each.kind == feedback_pb2.SURVEY_KIND_NPS]
    if not surveys:
        return None
    newest = max(surveys, key=lambda survey: survey.created.ToNanoseconds())
    results = await services.feedback.GetSurveyResults(feedback_pb2.GetSurveyResultsRequest(survey_id=newest.survey_id))
    return plain(newest) | _loyalty(plain(results))


def _loyalty(results: Fields) -> Fields:
    """Counts of detractors (0 to 6), passives (7, 8) and promoters (9, 10), and a scale for all intervals."""
    counts: Sequence[int] = results["overall"]["rating_counts"] if results["overall"] else []
    groups = [sum(counts[:7]), sum(counts[7:9]), sum(counts[9:])] if len(counts) == 11 else []
    segments = sorted(results["segments"], key=lambda each: -each["result"]["answer_count"])
    every = [results["overall"], *(each["result"] for each in segments)]
    bounds = [each[name] for each in every if each for name in ("low", "high")]
    return {
        "overall": results["overall"],
        "groups": groups,
        "segments": segments,
        "scale": around(bounds, always=(0.0,), step=25.0) if any(bounds) else Scale(-100.0, 100.0),
    }


async def _open_cases(services: Services) -> int:
    answer = await services.feedback.ListCases(feedback_pb2.ListCasesRequest(open_only=True, page_size=1))
    return answer.open_count


async def _experiments(services: Services) -> Fields:
    """The newest experiments with their results, on one scale in percentage points."""
    answer = await services.evaluation.ListExperiments(evaluation_pb2.ListExperimentsRequest())
    newest = sorted(answer.experiments, key=lambda each: -each.created.ToNanoseconds())[:EXPERIMENTS_SHOWN]
    results = await asyncio.gather(*(_results(services, each.experiment_id) for each in newest))
    shown = [plain(each) | {"results": result} for each, result in zip(newest, results, strict=True)]
    bounds = [each["results"][name] for each in shown for name in ("low", "high")]
    margins = [sign * each.margin for each in newest for sign in (-1, 1)]
    return {
        "all_count": len(answer.experiments),
        "shown": shown,
        "scale": around([*bounds, *margins], always=(0.0,), step=0.05),
    }


async def _results(services: Services, experiment_id: str) -> Fields:
    request = evaluation_pb2.GetExperimentResultsRequest(experiment_id=experiment_id)
    return plain(await services.evaluation.GetExperimentResults(request))
