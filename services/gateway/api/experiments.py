"""Experiments: who gets which variant, who met it, and whether it worked."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import Field
from rapport.evaluation.v1 import evaluation_pb2

from chassis.errors import NotFound
from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.clients import LONG_S
from services.gateway.domain import Scope
from services.gateway.wire import Answer, Asked, Decimal, Lower, Name, Refs, Slug, Text, Whole

routes = router("Experiments")

ExperimentId = Annotated[Slug, Path(alias="experimentId", description="The experiment's id.", examples=["win-back"])]
Verdict = Annotated[Literal["better", "worse", "no_difference", "not_enough_data"], Lower]


class Variant(Answer):
    """A way to treat a customer, and the share of customers who get it."""

    key: str
    share: float


class VariantDraft(Asked):
    """A way to treat a customer."""

    key: Slug = Field(examples=["control"])
    share: Decimal = Field(gt=0, lt=1, description="Share of the customers; all shares add to 1.", examples=[0.5])


class ExperimentDraft(Asked):
    """An experiment to make. A repeat with the same content is no error."""

    experiment_id: Slug = Field(examples=["win-back"])
    hypothesis: Text = Field(examples=["A voucher brings customers at risk back."])
    variants: list[VariantDraft] = Field(
        min_length=2,
        max_length=10,
        description="The first is the control.",
        examples=[[{"key": "control", "share": 0.5}, {"key": "voucher", "share": 0.5}]],
    )
    outcome_event: Name = Field(description="Converted: the customer had this event.", examples=["Order Completed"])
    outcome_window_days: Whole = Field(ge=1, le=365, description="Within so many days of the assignment.", examples=[30])
    margin: Decimal = Field(0.0, ge=0, lt=1, description="A difference inside plus and minus this is of no interest.")


class Experiment(Answer):
    """An experiment as it runs."""

    experiment_id: str
    hypothesis: str
    variants: list[Variant]
    outcome_event: str
    outcome_window_days: int
    margin: float
    created: datetime | None
    assigned_count: int


class Experiments(Answer):
    """All experiments of the tenant."""

    data: list[Experiment]


class Enrolment(Asked):
    """Customers, at most 1,000."""

    refs: Refs


class Assignment(Answer):
    """A customer's variant; null where nobody is known by the reference."""

    ref: str
    profile_id: str | None
    variant: str | None
    assigned: datetime | None


class Assignments(Answer):
    """In the order of `refs`."""

    assignments: list[Assignment]


class Exposures(Answer):
    """How many were recorded. Customers who are not assigned, or not known, do not count."""

    recorded_count: int


class VariantResult(Answer):
    """What became of a variant's customers."""

    key: str
    assigned_count: int
    exposed_count: int
    judged_count: int = Field(description="Whose outcome window has ended.")
    converted_count: int


class ExperimentResults(Answer):
    """The effect with its 95 % interval, and what to make of it."""

    experiment_id: str
    variants: list[VariantResult]
    effect: float | None = Field(description="Difference to the control in the share that converted.")
    low: float | None
    high: float | None
    verdict: Verdict
    explanation: str
    sample_ratio_p: float | None = Field(description="Below 0.001 the assignment is broken, and there is no verdict.")
    at: datetime | None


@routes.get("/v1/experiments")
@needs(Scope.READ)
async def list_experiments(services: Services) -> Experiments:
    """All experiments."""
    answer = await services.evaluation.ListExperiments(evaluation_pb2.ListExperimentsRequest())
    return Experiments(data=[Experiment.of(each) for each in answer.experiments])


@routes.post("/v1/experiments")
@needs(Scope.DEFINE, creates=True)
async def create_experiment(services: Services, draft: ExperimentDraft) -> Experiment:
    """Makes an experiment."""
    request = evaluation_pb2.CreateExperimentRequest(
        experiment_id=draft.experiment_id,
        hypothesis=draft.hypothesis,
        variants=[evaluation_pb2.Variant(key=each.key, share=each.share) for each in draft.variants],
        outcome_event=draft.outcome_event,
        outcome_window_days=draft.outcome_window_days,
        margin=draft.margin,
    )
    return Experiment.of((await services.evaluation.CreateExperiment(request)).experiment)


@routes.post("/v1/experiments/{experimentId}/assignments")
@needs(Scope.SCORE)
async def assign_variants(services: Services, experiment_id: ExperimentId, enrolment: Enrolment) -> Assignments:
    """Gives each customer a variant; the same customer always gets the same one."""
    profile_ids = await services.resolve(enrolment.refs)
    known = _known(profile_ids)
    if not known:
        await _check_experiment(services, experiment_id)
    request = evaluation_pb2.AssignVariantsRequest(experiment_id=experiment_id, profile_ids=known)
    answered = (await services.evaluation.AssignVariants(request)).assignments if known else []
    given = {each.profile_id: Assignment.of(each, ref="") for each in answered}
    nobody = Assignment(ref="", profile_id=None, variant=None, assigned=None)
    pairs = zip(enrolment.refs, profile_ids, strict=True)
    return Assignments(assignments=[given.get(each, nobody).model_copy(update={"ref": ref}) for ref, each in pairs])


@routes.post("/v1/experiments/{experimentId}/exposures")
@needs(Scope.SCORE)
async def record_exposures(services: Services, experiment_id: ExperimentId, enrolment: Enrolment) -> Exposures:
    """These customers really met their variant."""
    known = _known(await services.resolve(enrolment.refs))
    if not known:
        await _check_experiment(services, experiment_id)
        return Exposures(recorded_count=0)
    request = evaluation_pb2.RecordExposuresRequest(experiment_id=experiment_id, profile_ids=known)
    return Exposures.of(await services.evaluation.RecordExposures(request))


async def _check_experiment(services: Services, experiment_id: str) -> None:
    """Raises NotFound where there is none, which nobody else says while there is nobody to ask for."""
    answer = await services.evaluation.ListExperiments(evaluation_pb2.ListExperimentsRequest())
    if all(each.experiment_id != experiment_id for each in answer.experiments):
        raise NotFound("there is no such experiment", field="experimentId")


def _known(profile_ids: list[str]) -> list[str]:
    """Each once, without those that nobody is."""
    return [each for each in dict.fromkeys(profile_ids) if each]


@routes.get("/v1/experiments/{experimentId}/results")
@needs(Scope.READ)
async def get_experiment_results(services: Services, experiment_id: ExperimentId) -> ExperimentResults:
    """Whether it worked, judged at the tenant's clock."""
    request = evaluation_pb2.GetExperimentResultsRequest(experiment_id=experiment_id)
    return ExperimentResults.of(await services.evaluation.GetExperimentResults(request, timeout=LONG_S))
