"""The rules that wake somebody: Prometheus takes them, each fires when it should and not when it should not."""

import asyncio
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from infra import prometheus
from infra.alerts import RULES, RUNBOOKS, TESTS, alerts_of, wanting
from infra.topology import ALL, GATEWAY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own judge of rules."""
    cache = prometheus.cache_folder()
    with ThreadPoolExecutor(1) as aside:  # where no loop runs
        try:
            found = prometheus.find(cache) or aside.submit(lambda: asyncio.run(prometheus.fetch(cache))).result()
        except (prometheus.Missing, OSError) as missing:
            pytest.skip(str(missing))
    if found.promtool is None:
        pytest.skip(f"there is no promtool beside {found.server}.")
    return found.promtool


def _files(folder: Path) -> list[str]:
    return sorted(str(path) for path in (ROOT / folder).glob("*.yaml"))


def test_prometheus_takes_every_rule(promtool: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", *_files(RULES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", _files(TESTS), ids=lambda path: Path(path).stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: Path, path: str) -> None:
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_runbook_and_its_cases() -> None:
    assert list(wanting(ROOT)) == []


def test_every_service_is_missed_when_it_is_gone() -> None:
    rules = yaml.safe_load((ROOT / RULES / "availability.yaml").read_text())["groups"][0]["rules"]
    [expression] = [rule["expr"] for rule in rules if rule["alert"] == "ServiceDown"]
    assert all(f'absent(up{{job="{service}"}})' in expression for service in (GATEWAY, *ALL))
    assert "|".join((GATEWAY, *ALL)) in expression


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The rules, their tests and the runbooks, to spoil."""
    for folder in (RULES, TESTS, RUNBOOKS):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_a_missing_runbook_and_one_too_many_are_told(copy: Path) -> None:
    (copy / RUNBOOKS / "ServiceDown.md").rename(copy / RUNBOOKS / "ServiceUp.md")
    assert list(wanting(copy)) == [
        "docs/runbooks/ServiceDown.md is missing",
        "docs/runbooks/ServiceUp.md: there is no such alert",
    ]


def test_headings_in_another_order_are_told(copy: Path) -> None:
    path = copy / RUNBOOKS / "ServiceDown.md"
    path.write_text(path.read_text().replace("## Impact", "## Consequences"))
    [sentence] = wanting(copy)
    assert "Meaning, Consequences, Diagnosis, Mitigation" in sentence


def test_an_alert_without_a_case_is_told(copy: Path) -> None:
    (copy / TESTS / "models.yaml").unlink()
    told = list(wanting(copy))
    names = {alert.name for alert in alerts_of(copy) if alert.file == "models.yaml"}
    assert len(names) == 3
    assert all(any(f"{name} does not fire" in sentence for sentence in told) for name in names)
    assert all(any(f"{name} fires with severity warning" in sentence for sentence in told) for name in names)


def test_a_rule_without_a_severity_or_a_summary_is_told(copy: Path) -> None:
    path = copy / RULES / "log.yaml"
    path.write_text(path.read_text().replace("severity: critical", "severity: fatal").replace("summary:", "text:", 1))
    told = " ".join(wanting(copy))
    assert "LogReaderStuck has severity 'fatal'" in told
    assert "LogReaderLag has other annotations than runbook_url, summary" in told
