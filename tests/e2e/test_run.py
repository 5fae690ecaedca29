"""The main job as a whole: what the report says, another run on the same folder, and a file of order lines."""

import json
import random
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from tests.e2e.running import Running, command_of

_FIGURES = """
rows.in rows.rejected events.accepted events.duplicate money.in money.profiles money.anonymous money.rejected profiles.count
churn.as_of churn.rate churn.auc churn.auc_low churn.auc_high churn.ece churn.auc_recent churn.recency_auc churn.logistic_auc
churn.model_version churn.digest recommendation.hit_rate_at_10 recommendation.popular_hit_rate_at_10
recommendation.new_hit_rate_at_10 recommendation.popular_new_hit_rate_at_10 nps.value nps.low nps.high nps.truth
experiment.effect experiment.low experiment.high experiment.truth experiment.verdict seconds.feed seconds.train seconds.total
segments.potential segments.new segments.active segments.lost segments.champions
"""
KEYS = _FIGURES.split()
# What a run says of itself and not of the shop.
OF_THE_RUN = {"recognised", "seconds.this_run"}
# The aim is 15, which `make bench` compares with; here other programs may be at work.
PATIENCE_S = 30

MAPPING = """
source = "tools"
currency = "EUR"
time_format = "%Y-%m-%d %H:%M"
time_zone = "Europe/Berlin"

[columns]
order_id = "order"
item_id = "item"
quantity = "quantity"
unit_price = "price"
time = "at"
customer_id = "buyer"
"""


def test_the_report_has_every_figure_or_says_why_not(platform: Running) -> None:
    report = platform.report
    assert [key for key in KEYS if key not in report and f"missing.{key}" not in report] == []
    assert report["sums.hold"] is True
    money = [Decimal(report[f"money.{part}"]) for part in ("profiles", "anonymous", "rejected", "refused")]
    assert Decimal(report["money.in"]) == sum(money)
    assert report["rows.in"] == report["rows.carried"] + report["rows.rejected"] + report["rows.refused"]
    stages = [report[f"segments.{stage}"] for stage in ("potential", "new", "active", "lost")]
    assert sum(stages) == report["profiles.count"]


def test_the_report_puts_what_was_measured_beside_what_is_true(platform: Running) -> None:
    report = platform.report
    assert report["nps.low"] < report["nps.value"] < report["nps.high"]
    assert report["experiment.low"] < report["experiment.effect"] < report["experiment.high"]
    assert report["churn.auc_low"] < report["churn.auc"] < report["churn.auc_high"]
    assert -100 <= report["nps.truth"] <= 100
    assert 0 < report["experiment.truth"] < 1
    assert report["churn.auc"] > 0.6
    assert report["churn.digest"] == report["churn.served_digest"]
    if "missing.rollout" not in report:
        assert report["rollout.faulty"] == "worse"
        assert report["rollout.equal"] != "worse"


@pytest.mark.timeout(400)
def test_it_ends_with_nothing_left_takes_a_file_of_orders_and_recognises_its_own_folder(
    platform: Running, tmp_path: Path
) -> None:
    before, known = platform.report, count(platform)
    family = platform.process.children(recursive=True)
    assert len(family) > 9
    assert platform.stop() in (0, None)
    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []
    try:
        sums = write_orders(tmp_path)
        command = command_of(platform.state, platform.port, "--once", "--data", str(tmp_path / "tools.csv"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        check_orders(json.loads((platform.state / "report.json").read_text()), sums)
    finally:
        seconds = platform.start_again()
    print(f"up again in {seconds:.1f} s")
    assert seconds < PATIENCE_S
    after = platform.report
    assert after["recognised"] is True
    assert {key: value for key, value in after.items() if key not in OF_THE_RUN} == {
        key: value for key, value in before.items() if key not in OF_THE_RUN
    }
    assert count(platform) == known


def count(platform: Running) -> tuple[int, int]:
    """(profiles, events) of the shop."""
    with platform.client() as client:
        freshness = client.get("/v1/freshness").json()
    return freshness["profileCount"], freshness["eventCount"]


def write_orders(folder: Path) -> dict[str, Decimal]:
    """Half a year of a small shop, with a row that cannot be used and orders of nobody; what they come to."""
    chance = random.Random(5)
    rows, sums = [], {"profiles": Decimal(0), "anonymous": Decimal(0), "rejected": Decimal(0)}
    for number in range(400):
        at = datetime(2024, 1, 1, 9, tzinfo=UTC) + timedelta(hours=11 * number)
        buyer = f"b{chance.randrange(60)}" if chance.random() < 0.9 else ""
        for item in chance.sample(range(20), 2):
            quantity, price = chance.randrange(1, 5), Decimal(chance.randrange(100, 9000)) / 100
            rows.append(f"o{number},i{item},{quantity},{price},{at:%Y-%m-%d %H:%M},{buyer}")
            sums["profiles" if buyer else "anonymous"] += quantity * price
    rows.append("o999,i1,1,-7.25,2024-03-01 10:00,b1")
    sums["rejected"] += Decimal("-7.25")
    (folder / "tools.toml").write_text(MAPPING)
    (folder / "tools.csv").write_text("\n".join(["order,item,quantity,price,at,buyer", *rows]) + "\n")
    return sums


def check_orders(report: dict, sums: dict[str, Decimal]) -> None:
    assert {part: Decimal(report[f"money.{part}"]) for part in sums} == sums
    assert Decimal(report["money.in"]) == sum(sums.values())
    assert (report["rows.in"], report["rows.rejected"], report["events.count"]) == (801, 1, 400)
    # Duplicates, where this state folder has been through these tests before.
    assert report["events.accepted"] + report["events.duplicate"] == 400
    assert {"missing.nps", "missing.experiment", "missing.rollout"} <= report.keys()
    assert [key for key in KEYS if key not in report and not is_missing(report, key)] == []


def is_missing(report: dict, key: str) -> bool:
    """Whether the report says why."""
    return f"missing.{key}" in report or f"missing.{key.split('.')[0]}" in report
