"""Installed into an empty namespace that enforces `restricted`; the simulated shop goes round the loop through the Service."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import CUSTOMERS, FULL, SEED, Installed
from tests.cluster.kube import SERVICES

READY_WITHIN_S = 240
FIRST_NAMES = ("Ada", "Bruno", "Clara", "Dario", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Levi")
STREETS = ("Lindenallee", "Am Markt", "Hafenweg", "Talstrasse", "Nordring", "Gartenstieg", "Uferpromenade")
# What comes before the experiment is the same everywhere. Who is offered what goes by keyed ids, each installation's own, and
# customers react to it: what comes after is alike.
SAME = ("profiles.count", "churn.rate", "churn.rows", "churn.as_of")


def test_everything_is_ready_within_four_minutes(installed: Installed) -> None:
    print(f"\nready after {installed.seconds:.0f} s")
    assert installed.seconds <= READY_WITHIN_S
    for service in SERVICES:
        assert installed.kube.ready_pods(service)


def test_the_release_tests_itself(installed: Installed) -> None:
    assert "Phase:          Succeeded" in installed.kube.helm("test", "rapport", "--timeout", "2m")


def test_a_shop_goes_round_the_loop(report: dict[str, Any]) -> None:
    assert report["rows.in"] == report["rows.carried"] + report["rows.rejected"]
    assert report["money.in"] == report["money.profiles"]
    assert report["churn.alias"] == "champion"
    assert report["churn.digest"] == report["churn.served_digest"]
    assert report["experiment.low"] <= report["experiment.effect"] <= report["experiment.high"]
    assert (report["rollout.equal"], report["rollout.faulty"]) != ("", ""), report
    assert report["rollout.faulty"] == "worse", report["rollout.faulty_explanation"]
    assert [key for key in report if key.startswith("missing.")] == []


@pytest.mark.skipif(not FULL, reason="FULL=1 compares with a run on this machine")
@pytest.mark.timeout(900)
def test_the_report_is_the_same_as_on_one_machine(report: dict[str, Any], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    command = [sys.executable, "-m", "cli.main", "run", "--once", "--state", str(tmp_path / "state"), "--port", "23500"]
    command += ["--customers", str(CUSTOMERS), "--seed", str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    here = json.loads((tmp_path / "state" / "report.json").read_text())
    assert here.keys() == report.keys()
    compared = [key for key in here if key.startswith(SAME)]
    assert {key: report[key] for key in compared} == {key: here[key] for key in compared}
    assert abs(report["churn.auc"] - here["churn.auc"]) < 0.01
    assert abs(report["rows.in"] / here["rows.in"] - 1) < 0.01


def test_the_training_job_registers_a_challenger(challenger: str) -> None:
    assert challenger == "2"


@pytest.mark.parametrize(
    ("job", "counted", "least"), [("rescore", "scores", 100), ("recompute", "tenants", 1), ("retention", "count", 0)]
)
def test_a_scheduled_job_does_its_work(installed: Installed, challenger: str, job: str, counted: str, least: int) -> None:
    installed.kube.job_of(job, f"{job}-1")
    last = json.loads(installed.kube.job_ended(f"{job}-1", patience_s=120).splitlines()[-1])
    print(f"\n{last}")
    assert last[counted] >= least


def test_a_match_run_is_worked_off_by_its_job(installed: Installed) -> None:
    """Of 200 people, 20 came twice, under another user id and with another phone."""
    installed.kube.python("deployment/gateway", "-m", "services.gateway.administer", "create-tenant", "matched")
    keys = installed.keys("matched")
    with installed.client(keys.write) as client:
        for call in (person for number in range(200) for person in _people(number)):
            client.post("/v1/identify", json=call).raise_for_status()
    with installed.client(keys.private) as client:
        asked = client.post("/v1/match-runs", json={})
        assert asked.status_code == 202, asked.text
        installed.kube.job_of("matching", "matching-1")
        last = json.loads(installed.kube.job_ended("matching-1", patience_s=300).splitlines()[-1])
        run = client.get(asked.headers["location"]).json()
    print(f"\n{last} {run}")
    assert last["runs"] == 1
    assert (run["state"], run["peopleCount"]) == ("succeeded", 220)
    assert 18 <= run["suggestedCount"] <= 22


def _people(number: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(number)
    name = {"firstName": chance.choice(FIRST_NAMES), "lastName": "".join(chance.choices("abdeklmnorstu", k=7))}
    born = f"{chance.randrange(1940, 2005)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    address = {
        "street": f"{chance.randrange(1, 99)} {chance.choice(STREETS)}",
        "postalCode": f"{chance.randrange(10_000, 99_999)}",
    }
    for time in range(1 + (number % 10 == 0)):
        phone = f"+4930{chance.randrange(1_000_000, 9_999_999)}"
        traits = {**name, "birthday": born, "phone": phone, "address": address}
        yield {"userId": f"p{number}-{time}", "traits": traits}
