"""`python -m infra.alerts`: an alert has a severity, a summary, unit tests and a runbook of its own. Exit code 1 where not."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path("charts/rapport/alerts")
TESTS = Path("tests/charts/alerts")
RUNBOOKS = Path("docs/runbooks")
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
SEVERITIES = ("critical", "warning")
ANNOTATIONS = {"summary", "runbook_url"}
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. An alert of two severities is two rules with one name and one runbook."""

    name: str
    file: str
    severity: str
    annotations: dict[str, str]


def rules_of(root: Path) -> list[dict[str, Any]]:
    """All rules, recorded and alerting, each with the name of its file."""
    found: list[dict[str, Any]] = []
    for path in sorted((root / RULES).glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            found += [rule | {"file": path.name} for rule in group["rules"]]
    return found


def alerts_of(root: Path) -> list[Alert]:
    return [
        Alert(rule["alert"], rule["file"], rule.get("labels", {}).get("severity", ""), rule.get("annotations", {}))
        for rule in rules_of(root)
        if "alert" in rule
    ]


def tested_of(root: Path) -> tuple[set[tuple[str, str]], set[str]]:
    """((alert, severity) of all that some case expects to fire, alerts of which some case expects nothing)."""
    firing: set[tuple[str, str]] = set()
    silent: set[str] = set()
    for path in sorted((root / TESTS).glob("*.yaml")):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", ()):
                expected = case.get("exp_alerts") or []
                firing |= {(case["alertname"], each["exp_labels"]["severity"]) for each in expected}
                silent |= set() if expected else {case["alertname"]}
    return firing, silent


def wanting(root: Path) -> Iterator[str]:
    """A sentence for each thing that is missing or too much."""
    alerts = alerts_of(root)
    firing, silent = tested_of(root)
    for alert in alerts:
        yield from _wanting_labels(alert)
        if (alert.name, alert.severity) not in firing:
            yield f"{TESTS}: no case in which {alert.name} fires with severity {alert.severity}"
    names = {alert.name for alert in alerts}
    for name in sorted(names):
        if name not in silent:
            yield f"{TESTS}: no case in which {name} does not fire"
        yield from _wanting_runbook(root, name)
    for path in sorted((root / RUNBOOKS).glob("*.md")):
        if path.stem not in names:
            yield f"{RUNBOOKS / path.name}: there is no such alert"


def _wanting_labels(alert: Alert) -> Iterator[str]:
    if alert.severity not in SEVERITIES:
        yield f"{alert.file}: {alert.name} has severity {alert.severity!r}, which is none of {', '.join(SEVERITIES)}"
    if alert.annotations.keys() != ANNOTATIONS:
        yield f"{alert.file}: {alert.name} has other annotations than {', '.join(sorted(ANNOTATIONS))}"
    elif alert.annotations["runbook_url"] != (runbook := str(RUNBOOKS / f"{alert.name}.md")):
        yield f"{alert.file}: the runbook_url of {alert.name} is not {runbook}"


def _wanting_runbook(root: Path, name: str) -> Iterator[str]:
    path = root / RUNBOOKS / f"{name}.md"
    if not path.exists():
        yield f"{RUNBOOKS / path.name} is missing"
        return
    text = path.read_text(encoding="utf-8")
    if not text.startswith(f"# {name}\n"):
        yield f"{RUNBOOKS / path.name} does not begin with its alert's name"
    if (found := _HEADING.findall(text)) != HEADINGS:
        yield f"{RUNBOOKS / path.name} has the headings {', '.join(found)}, not {', '.join(HEADINGS)}"


def main() -> None:
    found = list(wanting(Path.cwd()))
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
