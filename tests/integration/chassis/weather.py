"""A service of the chassis alone, as a process: `python -m tests.integration.chassis.weather`. Its contract is borrowed."""

import asyncio
from typing import Any

from rapport.evaluation.v1 import evaluation_pb2 as pb
from rapport.evaluation.v1.evaluation_pb2_grpc import EvaluationServicer, add_EvaluationServicer_to_server

from chassis.process import Host, run
from chassis.settings import ServiceSettings, prefix_of

# A servicer that leaves methods out is abstract to the type checker.
Servicer: Any = EvaluationServicer


class Settings(ServiceSettings):
    model_config = prefix_of("weather")


class Weather(Servicer):
    async def ListExperiments(self, request: pb.ListExperimentsRequest, call: Any) -> pb.ListExperimentsResponse:
        await asyncio.sleep(1.0)
        return pb.ListExperimentsResponse(experiments=[pb.Experiment(experiment_id="rain")])


async def assemble(settings: Settings, host: Host) -> None:
    host.server.add(add_EvaluationServicer_to_server, Weather(), pb.DESCRIPTOR)


if __name__ == "__main__":
    run("weather", Settings(), assemble)
