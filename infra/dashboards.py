"""`python -m infra.dashboards` writes charts/rapport/dashboards/*.json: Grafana's dashboards, all from the tables below.

With `--check` it compares, and the exit code is 1 where they differ. Queries go by `job`, the service's noun: the label
`service` is another one where an operator scrapes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.topology import ALL, GATEWAY

FOLDER = Path("charts/rapport/dashboards")
COLUMNS = 24
HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: (PromQL, legend). `stat`: the last value, red from `limit` on; else a line over time, `limit` a red line."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    stat: bool = False
    limit: float | None = None
    about: str = ""


def rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[{_RATE}]))"


def hourly_mean(histogram: str, job: str) -> str:
    where = f'{{job="{job}"}}[1h]'
    return f"sum(rate({histogram}_sum{where})) / sum(rate({histogram}_count{where}))"


# --- Overview: the SLOs, then what stands under them.

SLOS = (
    ("availability", "Gateway: 99.9 % of requests are not answered 5xx", 0.001),
    ("latency", "Gateway: 99 % of events and reads in 250 ms", 0.01),
    ("freshness", "Profiles: 99 % of calls readable within 5 s", 0.01),
)
_STALE = 'sum(max by (age) (rapport_scoring_latest_scores_ratio{age=~"7d|older"}))'


def slo_panels(name: str, promise: str, budget: float) -> tuple[Panel, ...]:
    """How much of three days' budget is gone, and how fast it goes."""
    spent = f"rapport:{name}_errors:ratio_rate3d / {budget}"
    windows = tuple((f"rapport:{name}_errors:ratio_rate{window}", window) for window in ("5m", "1h", "6h"))
    return (
        Panel(promise, ((spent, "spent"),), "percentunit", 8, stat=True, limit=1, about="Share of three days' budget spent."),
        Panel(f"{name}: share that was not good", windows, "percentunit", 16, limit=budget),
    )


OVERVIEW = (
    *(panel for slo in SLOS for panel in slo_panels(*slo)),
    Panel("Scoring: 90 % of the latest scores at most two days old", ((_STALE, "older"),), "percentunit", stat=True, limit=0.1),
    Panel("Alerts that fire", (('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),), stat=True, limit=1),
    Panel("Processes that are up", (("sum by (job) (up)", "{{job}}"),)),
    Panel("Requests by status", ((rate("rapport_http_server_requests_total", "status"), "{{status}}"),), "reqps"),
    Panel("Events by what became of them", ((rate("rapport_profiles_ingest_events_total", "status"), "{{status}}"),), "eps"),
    Panel("Events not handled yet", (("max by (consumer) (rapport_log_reader_lag_events)", "{{consumer}}"),), limit=10_000),
    Panel(
        "Statements that failed for want of PostgreSQL", ((rate("rapport_database_failures_total", "job"), "{{job}}"),), "ops"
    ),
    Panel("Oldest fact that waits for the log", (("max by (job) (rapport_outbox_oldest_seconds)", "{{job}}"),), "s", limit=120),
    Panel(
        "PostgreSQL's size",
        (
            ("max(rapport_profiles_database_bytes)", "tables and indexes"),
            ("max(rapport_profiles_database_capacity_bytes)", "volume; 0: not known"),
        ),
        "bytes",
    ),
)

# --- One a service: what all have, then its own.


def called(job: str) -> tuple[Panel, ...]:
    where = f'job="{job}"'
    return (
        Panel("Calls by method", ((rate("rapport_rpc_server_requests_total", "method", where), "{{method}}"),), "reqps"),
        Panel("Calls by code", ((rate("rapport_rpc_server_requests_total", "code", where), "{{code}}"),), "reqps"),
        Panel("p99 by method", ((f"rapport:rpc_duration_seconds:p99_rate5m{{{where}}}", "{{method}}"),), "s"),
    )


def following(job: str) -> tuple[Panel, ...]:
    """Who follows the log."""
    where = f'job="{job}"'
    return (
        Panel("Events not handled yet", ((f"max(rapport_log_reader_lag_events{{{where}}})", "events"),), limit=10_000),
        Panel("Events handled", ((rate("rapport_log_reader_events_total", "consumer", where), "{{consumer}}"),), "eps"),
        Panel(
            "Batches tried again, events passed over",
            (
                (rate("rapport_log_reader_failures_total", "consumer", where), "batches of {{consumer}}"),
                (rate("rapport_log_reader_unreadable_events_total", "consumer", where), "events of {{consumer}}"),
            ),
        ),
    )


def telling(job: str, refused: str) -> tuple[Panel, ...]:
    """Who tells the log what it found. `refused`: the counter of facts that profiles refused."""
    where = f'job="{job}"'
    return (
        Panel("Oldest fact that waits", ((f"max(rapport_outbox_oldest_seconds{{{where}}})", "age"),), "s", limit=120),
        Panel("Facts that profiles refused", ((f"sum(increase({refused}[1h]))", "in an hour"),)),
    )


def calling(job: str) -> tuple[Panel, ...]:
    legend = "{{target}} {{code}}"
    return (
        Panel("Calls made", ((rate("rapport_rpc_client_requests_total", "target, code", f'job="{job}"'), legend),), "reqps"),
    )


def running(job: str) -> tuple[Panel, ...]:
    where = f'job="{job}"'
    return (
        Panel("Processors", ((f"rate(process_cpu_seconds_total{{{where}}}[{_RATE}])", "{{instance}}"),), width=6),
        Panel("Memory", ((f"process_resident_memory_bytes{{{where}}}", "{{instance}}"),), "bytes", 6),
        Panel("PostgreSQL failed", ((rate("rapport_database_failures_total", "job", where), "statements"),), "ops", 6),
        Panel("Versions", ((f"count by (version) (rapport_build_info{{{where}}})", "{{version}}"),), width=6),
    )


_HTTP = 'job="gateway"'
OWN: Mapping[str, tuple[Panel, ...]] = {
    "gateway": (
        Panel("Requests by route", ((rate("rapport_http_server_requests_total", "route", _HTTP), "{{route}}"),), "reqps"),
        Panel("Requests by status", ((rate("rapport_http_server_requests_total", "status", _HTTP), "{{status}}"),), "reqps"),
        Panel("p99 by route", (("rapport:http_duration_seconds:p99_rate5m", "{{route}}"),), "s", limit=0.25),
        *calling("gateway"),
    ),
    "profiles": (
        *called("profiles"),
        *following("profiles"),
        Panel("Events", ((rate("rapport_profiles_ingest_events_total", "status"), "{{status}}"),), "eps"),
        Panel(
            "Rejected, by reason",
            ((rate("rapport_profiles_ingest_events_total", "reason", 'status="rejected"'), "{{reason}}"),),
            "eps",
        ),
        Panel("Readable within 5 s: share that was not", (("rapport:freshness_errors:ratio_rate5m", "late"),), "percentunit"),
        Panel(
            "Passed over",
            (
                ("sum(increase(rapport_profiles_skipped_events_total[1h]))", "of unknown tenants, in an hour"),
                ("sum(increase(rapport_profiles_refused_links_total[1h]))", "links too many, in an hour"),
            ),
        ),
    ),
    "segmentation": (
        *called("segmentation"),
        *following("segmentation"),
        *telling("segmentation", "rapport_segmentation_rejected_facts_total"),
        *calling("segmentation"),
        Panel("Profiles touched, not evaluated yet", (("max(rapport_segmentation_waiting_profiles)", "profiles"),)),
        Panel("Profiles evaluated", ((rate("rapport_segmentation_evaluations_total", "job"), "profiles"),)),
        Panel("Memberships that changed", ((rate("rapport_segmentation_changes_total", "kind"), "{{kind}}"),)),
        Panel(
            "Recomputing everything",
            ((hourly_mean("rapport_segmentation_sweep_duration_seconds", "segmentation"), "mean"),),
            "s",
        ),
    ),
    "scoring": (
        *called("scoring"),
        *following("scoring"),
        *telling("scoring", "rapport_scoring_refused_facts_total"),
        *calling("scoring"),
        Panel("Scores", ((rate("rapport_scoring_scored_total", "purpose"), "{{purpose}}"),)),
        Panel("Not scored, by reason", ((rate("rapport_scoring_not_scored_total", "reason"), "{{reason}}"),)),
    ),
    "recommendation": (
        *called("recommendation"),
        *following("recommendation"),
        *telling("recommendation", "rapport_recommendation_refused_facts_total"),
        *calling("recommendation"),
        Panel("Models in memory", (("max(rapport_recommendation_models)", "models"),)),
        Panel("Building one", ((hourly_mean("rapport_recommendation_build_seconds", "recommendation"), "mean"),), "s"),
    ),
    "feedback": (
        *called("feedback"),
        *following("feedback"),
        *telling("feedback", "rapport_feedback_rejected_facts_total"),
        *calling("feedback"),
        Panel("Answers", ((rate("rapport_feedback_answers_total", "kind"), "{{kind}}"),)),
        Panel("Cases opened", ((rate("rapport_feedback_opened_cases_total", "kind"), "{{kind}}"),)),
    ),
    "evaluation": (
        *called("evaluation"),
        *following("evaluation"),
        *telling("evaluation", "rapport_evaluation_refused_facts_total"),
        *calling("evaluation"),
        Panel("Judgements", ((rate("rapport_evaluation_verdicts_total", "subject, verdict"), "{{subject}}: {{verdict}}"),)),
        Panel("Aliases that do not follow yet", (("max(rapport_evaluation_pending_aliases_models)", "models"),)),
    ),
}

# --- The loop: models, experiments.


def verdicts(subject: str) -> Panel:
    query = f'sum by (verdict) (increase(rapport_evaluation_verdicts_total{{subject="{subject}"}}[1d]))'
    return Panel(f"Judgements of a day: {subject}", ((query, "{{verdict}}"),))


_SCORE = 'job="scoring", method="ScoreProfiles"'
MODELS = (
    Panel("Oldest model that answers", (("max(rapport_scoring_model_age_seconds)", "age"),), "s", stat=True, limit=90 * 86_400),
    Panel("Promoted, not answering yet", (("max(rapport_scoring_pending_models)", "models"),), stat=True, limit=1),
    Panel(
        "Aliases that do not follow yet", (("max(rapport_evaluation_pending_aliases_models)", "models"),), stat=True, limit=1
    ),
    Panel("Latest scores by age", (("max by (age) (rapport_scoring_latest_scores_ratio)", "{{age}}"),), "percentunit"),
    Panel("Scores", ((rate("rapport_scoring_scored_total", "purpose"), "{{purpose}}"),)),
    Panel("Not scored, by reason", ((rate("rapport_scoring_not_scored_total", "reason"), "{{reason}}"),)),
    Panel(
        "ScoreProfiles by release",
        ((rate("rapport_rpc_server_requests_total", "version, code", _SCORE), "{{version}} {{code}}"),),
        "reqps",
    ),
    Panel("ScoreProfiles, p99", ((f"rapport:rpc_duration_seconds:p99_rate5m{{{_SCORE}}}", "p99"),), "s"),
    Panel(
        "Loaded in a day", (("sum by (source) (increase(rapport_scoring_model_load_seconds_count[1d]))", "from {{source}}"),)
    ),
    Panel("Not loaded in a day", (("sum(increase(rapport_scoring_model_load_failures_total[1d])) or vector(0)", "failures"),)),
    Panel("Champions named in a day", (("sum by (kind) (increase(rapport_evaluation_promotions_total[1d]))", "{{kind}}"),)),
    verdicts("model"),
    verdicts("rollout"),
    Panel("Models of recommendation in memory", (("max(rapport_recommendation_models)", "models"),)),
)


def asked(title: str, methods: str, job: str = "evaluation") -> Panel:
    where = f'job="{job}", method=~"{methods}"'
    return Panel(title, ((rate("rapport_rpc_server_requests_total", "method, code", where), "{{method}} {{code}}"),), "reqps")


EXPERIMENTS = (
    verdicts("experiment"),
    asked("Assignments", "AssignVariants"),
    asked("Exposures", "RecordExposures"),
    asked("Results asked for, experiments made", "GetExperimentResults|CreateExperiment"),
    Panel("p99 by method", (('rapport:rpc_duration_seconds:p99_rate5m{job="evaluation"}', "{{method}}"),), "s"),
    Panel("Answers to surveys", ((rate("rapport_feedback_answers_total", "kind"), "{{kind}}"),)),
    *following("evaluation"),
    *telling("evaluation", "rapport_evaluation_refused_facts_total"),
)


def dashboards() -> dict[str, dict[str, Any]]:
    """By the name of the file."""
    found = {"overview": dashboard("overview", "Rapport: SLOs", OVERVIEW)}
    for service in (GATEWAY, *ALL):
        found[service] = dashboard(service, f"Rapport: {service}", (*OWN[service], *running(service)))
    found["models"] = dashboard("models", "Rapport: models", MODELS)
    found["experiments"] = dashboard("experiments", "Rapport: experiments", EXPERIMENTS)
    return found


def dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    choice = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "hide": 0}
    return {
        "uid": f"rapport-{name}",
        "title": title,
        "tags": ["rapport"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [choice]},
        "links": [{"type": "dashboards", "title": "Rapport", "tags": ["rapport"], "asDropdown": True}],
        "panels": placed(panels),
    }


def placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """From left to right, a new row where one is full."""
    found: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        found.append(panel_json(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT}})
        x += panel.width
    return found


def panel_json(panel: Panel, number: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.limit is not None and not panel.stat:
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    wanted = {FOLDER / f"{name}.json": json.dumps(each, indent=1) + "\n" for name, each in dashboards().items()}
    there = {path: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}
    different = [path for path in sorted(wanted.keys() | there.keys()) if wanted.get(path) != there.get(path)]
    if "--check" in arguments:
        for path in different:
            print(f"{path} differs from infra/dashboards.py: run make docs", file=sys.stderr)
        return 1 if different else 0
    for path in different:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
