"""Grafana's dashboards are what the generator makes, and fit its grid."""

import json
from pathlib import Path

import pytest

from infra.dashboards import COLUMNS, FOLDER, dashboards, main
from infra.topology import ALL, GATEWAY

ROOT = Path(__file__).resolve().parents[2]


def test_there_is_one_for_the_slos_each_service_models_and_experiments() -> None:
    assert set(dashboards()) == {"overview", "models", "experiments", GATEWAY, *ALL}
    assert {path.stem for path in (ROOT / FOLDER).glob("*.json")} == set(dashboards())


@pytest.mark.parametrize("name", sorted(dashboards()))
def test_no_panel_lies_on_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((ROOT / FOLDER / f"{name}.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= COLUMNS
        taken |= cells


def test_a_file_that_was_edited_by_hand_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "old.json").write_text("{}")
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert not (tmp_path / FOLDER / "old.json").exists()
    (tmp_path / FOLDER / "models.json").write_text("{}")
    assert main(["--check"]) == 1
