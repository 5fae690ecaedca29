"""What is kept of a journey, and for whom."""

from dataclasses import replace
from pathlib import Path

import pytest

from demo.journey.facts import Facts
from demo.journey.record import open_record
from infra.failure import Refusal


def facts_of(folder: Path, *, seed: int = 1, data: str = "") -> Facts:
    empty = Facts(gateway_url="", mlflow_url="", profiles_target="", gateway_database_url="", state=str(folder))
    return replace(empty, customers=50, seed=seed, data=data)


def test_a_second_run_knows_what_the_first_one_did(tmp_path: Path) -> None:
    first = open_record(facts_of(tmp_path), "simulator")
    first.put(rows__in=5)
    first.end("feed", 1.5)
    again = open_record(facts_of(tmp_path), "simulator")
    assert again.phases == ["feed"]
    assert again.values == {"rows.in": 5, "seconds.feed": 1.5}
    again.end("train", 2)
    assert open_record(facts_of(tmp_path), "simulator").phases == ["feed", "train"]


def test_another_simulated_shop_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    open_record(facts_of(tmp_path), "simulator").end("feed", 1)
    with pytest.raises(Refusal, match="holds the simulated shop of CUSTOMERS=50 SEED=1: choose another with STATE="):
        open_record(facts_of(tmp_path, seed=2), "simulator")


def test_a_file_that_has_changed_begins_anew(tmp_path: Path) -> None:
    data = tmp_path / "orders.csv"
    data.write_text("one")
    open_record(facts_of(tmp_path, data=str(data)), "orders").end("feed", 1)
    assert open_record(facts_of(tmp_path, data=str(data)), "orders").phases == ["feed"]
    data.write_text("one more")
    assert open_record(facts_of(tmp_path, data=str(data)), "orders").phases == []
