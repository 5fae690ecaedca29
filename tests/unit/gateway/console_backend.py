"""The gateway with its console over real HTTP, real gRPC behind it: six stand-ins, and keys without a database.

By hand: `python -m tests.unit.gateway.console_backend 28080` serves it until Ctrl-C, and prints the keys.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

from rapport.evaluation.v1 import evaluation_pb2 as evaluation
from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationServicer, add_EvaluationServicer_to_server
from rapport.feedback.v1 import feedback_pb2 as feedback
from rapport.feedback.v1.feedback_pb2_grpc import FeedbackServicer, add_FeedbackServicer_to_server
from rapport.profiles.v1 import consents_pb2
from rapport.profiles.v1.consents_pb2_grpc import ConsentsServicer, add_ConsentsServicer_to_server
from rapport.profiles.v1.profiles_pb2_grpc import add_ProfilesServicer_to_server
from rapport.recommendation.v1.recommendation_pb2_grpc import add_RecommendationServicer_to_server
from rapport.scoring.v1.scoring_pb2_grpc import add_ScoringServicer_to_server
from rapport.segmentation.v1.segmentation_pb2_grpc import add_SegmentationServicer_to_server

from chassis import context, rpc
from services.gateway import api, clients
from services.gateway.domain import Key, Kind, Scope, digest_of, key_id_of, write_key_text
from services.gateway.keyring import Keyring
from services.gateway.main import Settings, serving
from tests.unit.gateway.console_people import NOW
from tests.unit.gateway.console_services import SHOP, Profiles, Recommendation, Scoring, Segmentation, stamp

EMPTY = "newcomer"


class Feedback(FeedbackServicer):
    """One NPS survey, in the shop."""

    async def ListSurveys(self, request: Any, call: object) -> feedback.ListSurveysResponse:
        if context.tenant() != SHOP:
            return feedback.ListSurveysResponse()
        question = "How likely are you to recommend us to a friend?"
        kind = feedback.SURVEY_KIND_NPS
        survey = feedback.Survey(survey_id="nps-spring", kind=kind, question=question, created=stamp(), answer_count=412)
        return feedback.ListSurveysResponse(surveys=[survey])

    async def GetSurveyResults(self, request: Any, call: object) -> feedback.GetSurveyResultsResponse:
        counts = [6, 3, 5, 8, 9, 20, 31, 58, 79, 102, 91]
        by_segment = {
            "champions": (48.0, 35.0, 61.0, 96),
            "at_risk": (-6.0, -21.0, 9.0, 118),
            "active": (31.0, 22.0, 40.0, 190),
        }
        segments = [
            feedback.SegmentResult(segment_key=key, result=feedback.Result(value=v, low=lo, high=hi, answer_count=n))
            for key, (v, lo, hi, n) in by_segment.items()
        ]
        few = feedback.Result(answer_count=1, missing="not enough data: one answer")
        segments.append(feedback.SegmentResult(segment_key="new", result=few))
        overall = feedback.Result(value=27.0, low=20.0, high=34.0, answer_count=412, rating_counts=counts)
        return feedback.GetSurveyResultsResponse(kind=feedback.SURVEY_KIND_NPS, overall=overall, segments=segments)

    async def ListCases(self, request: Any, call: object) -> feedback.ListCasesResponse:
        return feedback.ListCasesResponse(open_count=14 if context.tenant() == SHOP else 0)


class Evaluation(EvaluationServicer):
    """One judged model, two promotions and two experiments, in the shop."""

    async def ListModelEvaluations(self, request: Any, call: object) -> evaluation.ListModelEvaluationsResponse:
        if context.tenant() != SHOP:
            return evaluation.ListModelEvaluationsResponse()
        said = (0.04, 0.09, 0.15, 0.22, 0.31, 0.42, 0.55, 0.68, 0.8, 0.92)
        left = (0.05, 0.07, 0.17, 0.2, 0.34, 0.4, 0.58, 0.66, 0.84, 0.9)
        bins = [
            evaluation.CalibrationBin(mean_probability=p, observed_rate=q, row_count=161)
            for p, q in zip(said, left, strict=True)
        ]
        judged = evaluation.ModelEvaluation(
            model="churn", version="3", as_of=stamp(NOW - timedelta(days=90)), horizon_days=90, row_count=1612,
            recent_count=804, rate=0.41, auc=0.842, auc_low=0.823, auc_high=0.861, ece=0.021, auc_recent=0.731,
            recency_auc=0.791, recency_auc_recent=0.64, logistic_auc=0.825, logistic_auc_recent=0.702,
            verdict=evaluation.VERDICT_BETTER, evaluated=stamp(), bins=bins,
            explanation="The model's AUC is 0.051 above the recency rule's, 95 % interval 0.036 to 0.066.",
        )  # fmt: skip
        return evaluation.ListModelEvaluationsResponse(evaluations=[judged])

    async def ListPromotions(self, request: Any, call: object) -> evaluation.ListPromotionsResponse:
        if context.tenant() != SHOP:
            return evaluation.ListPromotionsResponse()
        made = [
            ("2", "3", "promotion", "Beats version 2 on the spring cohort", 1),
            ("3", "2", "rollback", "Scores drifted after the price change", 40),
        ]
        promotions = [
            evaluation.Promotion(
                model="churn", from_version=a, to_version=b, kind=kind, actor="sk_4f1d22c09b7e", reason=reason,
                promoted=stamp(NOW - timedelta(days=days)),
            )
            for a, b, kind, reason, days in made
        ]  # fmt: skip
        return evaluation.ListPromotionsResponse(promotions=promotions)

    async def ListExperiments(self, request: Any, call: object) -> evaluation.ListExperimentsResponse:
        if context.tenant() != SHOP:
            return evaluation.ListExperimentsResponse()
        variants = [evaluation.Variant(key=key, share=0.5) for key in ("control", "offer")]
        texts = {
            "retention-offer": "An offer to customers at risk brings more of them back within 60 days.",
            "welcome-call": "A call in the first week makes a second order more likely.",
        }
        return evaluation.ListExperimentsResponse(
            experiments=[
                evaluation.Experiment(
                    experiment_id=key, hypothesis=text, variants=variants, outcome_event="Order Completed",
                    outcome_window_days=60, margin=0.02, created=stamp(), assigned_count=800,
                )
                for key, text in texts.items()
            ]
        )  # fmt: skip

    async def GetExperimentResults(self, request: Any, call: object) -> evaluation.GetExperimentResultsResponse:
        counted = evaluation.VariantResult
        if request.experiment_id == "welcome-call":
            explanation = "The outcome window of 60 days has ended for 12 customers of the control; each needs at least 30."
            variants = [counted(key="control", assigned_count=90), counted(key="offer", assigned_count=88)]
            verdict = evaluation.VERDICT_NOT_ENOUGH_DATA
            return evaluation.GetExperimentResultsResponse(variants=variants, verdict=verdict, explanation=explanation)
        return evaluation.GetExperimentResultsResponse(
            experiment_id="retention-offer", effect=0.084, low=0.031, high=0.137, verdict=evaluation.VERDICT_BETTER,
            explanation='"offer" converted 32.5 % of 402, "control" 24.1 % of 398: an effect of nothing can be excluded.',
            sample_ratio_p=0.887, at=stamp(),
            variants=[
                counted(key="control", assigned_count=398, exposed_count=398, judged_count=398, converted_count=96),
                counted(key="offer", assigned_count=402, exposed_count=402, judged_count=402, converted_count=131),
            ],
        )  # fmt: skip


class Consents(ConsentsServicer):
    """Everybody of the shop denies advertising, and has said nothing of SMS."""

    async def ListConsents(self, request: Any, call: object) -> consents_pb2.ListConsentsResponse:
        if context.tenant() != SHOP:
            return consents_pb2.ListConsentsResponse(profile_id=request.ref)
        said = consents_pb2.ConsentRecord(
            purpose="advertising", channel="any", state=consents_pb2.CONSENT_STATE_DENIED, source="checkout",
            proof_version="terms-2026-03", timestamp=stamp(), recorded=stamp(),
        )  # fmt: skip
        denied = consents_pb2.ConsentStanding(
            purpose="advertising", channel="any", state=said.state, ground=consents_pb2.CONSENT_GROUND_ANY_CHANNEL, record=said
        )
        default = consents_pb2.CONSENT_GROUND_CHANNEL_DEFAULT
        sms = consents_pb2.ConsentStanding(purpose="service", channel="sms", ground=default)
        service = consents_pb2.ConsentStanding(
            purpose="service", channel="any", allowed=True, ground=consents_pb2.CONSENT_GROUND_LEGAL_BASIS
        )
        return consents_pb2.ListConsentsResponse(profile_id=request.ref, standings=[denied, service, sms])


@dataclass(slots=True)
class Keys:
    """Keys as the gateway's store would give them."""

    known: dict[str, Key] = field(default_factory=dict[str, Key])

    def make(self, tenant: str, scopes: Iterable[Scope], kind: Kind = Kind.PRIVATE) -> str:
        number = len(self.known) + 1
        text = write_key_text(kind, identity=number.to_bytes(6, "big"), secret=number.to_bytes(32, "big"))
        key_id = key_id_of(text) or ""
        self.known[key_id] = Key(key_id, tenant, kind, frozenset(scopes), digest_of(text), NOW)
        return text

    def revoke(self, text: str) -> None:
        key_id = key_id_of(text) or ""
        self.known[key_id] = replace(self.known[key_id], revoked=NOW)

    async def find(self, key_id: str) -> Key | None:
        return self.known.get(key_id)


@dataclass(slots=True)
class Backend:
    """A console that answers at `url`. `stop` ends a service, as if it had died; `start` brings it back.

    `passed_s`: seconds by which the keyring's clock is ahead.
    """

    keys: Keys
    passed_s: float = 0.0
    url: str = ""
    servers: dict[str, rpc.Server] = field(default_factory=dict[str, rpc.Server])
    targets: dict[str, str] = field(default_factory=dict[str, str])

    async def start(self, name: str) -> None:
        add, servicer = _PARTS[name]
        server = self.servers[name] = rpc.Server(name, "test")
        server.add(add, servicer(), clients.CONTRACTS[name][0][2])
        if name == "profiles":
            consents = Consents()  # pyright: ignore[reportAbstractUsage]
            server.add(add_ConsentsServicer_to_server, consents, consents_pb2.DESCRIPTOR)
        self.targets[name] = f"127.0.0.1:{await server.start(self.targets.get(name, '127.0.0.1:0'))}"

    async def stop(self, name: str) -> None:
        await self.servers.pop(name).stop(0)


_PARTS: dict[str, tuple[Any, type[Any]]] = {
    "profiles": (add_ProfilesServicer_to_server, Profiles),
    "segmentation": (add_SegmentationServicer_to_server, Segmentation),
    "scoring": (add_ScoringServicer_to_server, Scoring),
    "recommendation": (add_RecommendationServicer_to_server, Recommendation),
    "feedback": (add_FeedbackServicer_to_server, Feedback),
    "evaluation": (add_EvaluationServicer_to_server, Evaluation),
}


@asynccontextmanager
async def running(port: int = 0) -> AsyncGenerator[Backend]:
    """Everything up, ended at the end."""
    backend = Backend(Keys())
    async with AsyncExitStack() as stack:
        for name in _PARTS:
            await backend.start(name)

        def channel(name: str, target: str, *contracts: Any) -> Any:
            made = rpc.channel(name, target, *contracts)
            stack.push_async_callback(made.close)
            return made

        keyring = Keyring(backend.keys.find, rate_per_s=1000, clock=lambda: time.monotonic() + backend.passed_s)
        # Idempotency keys are not the console's affair.
        app = api.build(clients.connect(channel, backend.targets), keyring, cast(Any, None), cast(Any, None), version="test")
        settings = Settings(port=port, grace_s=1)  # pyright: ignore[reportCallIssue]
        backend.url = f"http://127.0.0.1:{await stack.enter_async_context(serving(app, settings))}"
        try:
            yield backend
        finally:
            for name in list(backend.servers):
                await backend.stop(name)


async def _show(port: int) -> None:
    async with running(port) as backend:
        everything = backend.keys.make(SHOP, Scope)
        newcomer = backend.keys.make(EMPTY, Scope)
        print(f"{backend.url}/console\n{SHOP}: {everything}\n{EMPTY}: {newcomer}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_show(int(sys.argv[1])))
