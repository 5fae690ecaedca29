"""The table of processes and what follows from it."""

import dataclasses

from infra.roles import SERVICES as ROLES_OF
from infra.topology import BY_NAME, CANDIDATE, SERVICES, STAGES, Ports, Surroundings, environment

AROUND = Surroundings(
    ports=Ports(8080),
    database_urls={service: f"postgresql://rapport_{service}:x@127.0.0.1:8100/rapport" for service in ROLES_OF},
    master_key_file="/state/secrets/master.key",
    archive_folder="/state/archive",
    import_folder="/state/imports",
    model_folder="/state/models",
    prometheus_url="http://127.0.0.1:8102",
)


def test_no_two_processes_share_a_port() -> None:
    ports = list(Ports(8080).all().values())
    assert len(ports) == len(set(ports)) == 3 + 2 * len(SERVICES)


def test_every_service_but_the_candidate_is_started_once() -> None:
    started = [name for stage in STAGES for name in stage]
    assert sorted(started) == sorted(name for name, service in BY_NAME.items() if not service.is_candidate)


def test_profiles_comes_first_and_the_gateway_last() -> None:
    assert STAGES[0] == ("profiles",)
    assert STAGES[-1] == ("gateway",)


def test_a_service_is_told_its_addresses_and_its_own_role() -> None:
    told = environment("scoring", AROUND)
    assert told["RAPPORT_SCORING_LISTEN"] == "127.0.0.1:8083"
    assert told["RAPPORT_SCORING_METRICS_LISTEN"] == "127.0.0.1:8093"
    assert told["RAPPORT_SCORING_PROFILES_TARGET"] == "ipv4:127.0.0.1:8081"
    assert told["RAPPORT_SCORING_MLFLOW_URL"] == "http://127.0.0.1:8101"
    assert "rapport_scoring:" in told["RAPPORT_SCORING_DATABASE_URL"]


def test_a_candidate_reads_the_settings_of_its_service_under_other_ports() -> None:
    champion, candidate = environment("scoring", AROUND), environment(CANDIDATE, AROUND)
    assert {key for key in champion if champion[key] != candidate[key]} == {
        "RAPPORT_SCORING_LISTEN",
        "RAPPORT_SCORING_METRICS_LISTEN",
    }


def test_the_gateway_reaches_scoring_and_its_candidate() -> None:
    assert environment("gateway", AROUND)["RAPPORT_GATEWAY_SCORING_TARGET"] == "ipv4:127.0.0.1:8083,127.0.0.1:8110"


def test_only_profiles_is_told_where_the_master_key_is() -> None:
    told = [name for name in BY_NAME if any("master.key" in value for value in environment(name, AROUND).values())]
    assert told == ["profiles"]


def test_without_prometheus_evaluation_is_told_so() -> None:
    around = dataclasses.replace(AROUND, prometheus_url="")
    assert environment("evaluation", around)["RAPPORT_EVALUATION_PROMETHEUS_URL"] == ""
