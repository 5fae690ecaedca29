"""What the journey is told where there is no supervisor to tell it."""

import msgspec
import pytest

from demo.journey.facts import Facts

SAID = {
    "RAPPORT_JOURNEY_GATEWAY_URL": "http://gateway:8080",
    "RAPPORT_JOURNEY_MLFLOW_URL": "http://mlflow:5000",
    "RAPPORT_JOURNEY_PROFILES_TARGET": "dns:///profiles:50051",
    "RAPPORT_JOURNEY_STATE": "/var/lib/rapport/state",
    "RAPPORT_JOURNEY_CUSTOMERS": "400",
    "RAPPORT_JOURNEY_NOTICE_S": "20",
    "RAPPORT_JOURNEY_BASELINE_VERSION": "1.2.3",
    "RAPPORT_GATEWAY_DATABASE_URL": "postgresql://gateway",
    "RAPPORT_SCORING_LISTEN": "0.0.0.0:50051",
    "PATH": "/bin",
}


def test_a_container_is_told_by_its_environment() -> None:
    facts = Facts.of_environment(SAID)
    assert (facts.gateway_url, facts.gateway_database_url) == ("http://gateway:8080", "postgresql://gateway")
    assert (facts.customers, facts.seed, facts.notice_s) == (400, 1, 20.0)
    assert facts.candidate == {"RAPPORT_SCORING_LISTEN": "0.0.0.0:50051", "RAPPORT_SCORING_BASELINE_VERSION": "1.2.3"}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"RAPPORT_JOURNEY_CUSTOMERS": "many"}, "customers"), ({"RAPPORT_JOURNEY_STATE": None}, "state")],
)
def test_what_is_missing_or_no_number_is_named(change: dict[str, str | None], said: str) -> None:
    environment = {name: value for name, value in (SAID | change).items() if value is not None}
    with pytest.raises(msgspec.ValidationError, match=said):
        Facts.of_environment(environment)
