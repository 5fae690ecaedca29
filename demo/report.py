"""The report on one screen. Every figure is also in report.json under the same name."""

from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Values = dict[str, Any]
# Columns of a terminal from which on two blocks stand side by side.
WIDE = 150
LIFE_CYCLE = ("potential", "new", "active", "lost")
VERDICTS = {
    "better": "better than the recency rule",
    "worse": "worse than the recency rule",
    "no_difference": "no clear difference from the recency rule",
    "not_enough_data": "not enough data to compare it with the recency rule",
}


def show(values: Values, console: Console) -> None:
    """Prints the report."""
    blocks = [_events(values), _segments(values), _churn(values), _outcome(values)]
    wide = console.width >= WIDE
    body = Columns([Group(*blocks[:2]), Group(*blocks[2:])], padding=(0, 3)) if wide else Group(*blocks)
    console.print(Panel(body, title=f"Rapport: {values['source']}", expand=False))
    for key in sorted(key for key in values if key.startswith("missing.")):
        console.print(Text(f"not computed: {key.removeprefix('missing.')}: {values[key]}", style="dim"))
    if values.get("recognised"):
        console.print("Everything was recognised from an earlier run; nothing was sent twice.")


def _grid(title: str) -> Table:
    table = Table.grid(padding=(0, 1))
    table.title, table.title_style, table.title_justify = title, "bold", "left"
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    return table


def _events(values: Values) -> Table:
    table = _grid("Events and sums")
    table.add_row(
        "rows in", f"{values['rows.in']:,}", f"= {values['rows.carried']:,} carried + {values['rows.rejected']:,} rejected"
    )
    reasons = [
        f"{values[key]:,} {key.removeprefix('rows.rejected.')}" for key in sorted(values) if key.startswith("rows.rejected.")
    ]
    if reasons:
        table.add_row("  rejected", f"{values['rows.rejected']:,}", ", ".join(reasons).replace("_", " "))
    table.add_row("events accepted", f"{values['events.accepted']:,}", f"{values['events.duplicate']:,} duplicate")
    table.add_row("money in", _money(values["money.in"]), "")
    table.add_row("  in profiles", _money(values["money.profiles"]), f"anonymous {_money(values['money.anonymous'])}")
    table.add_row("  rejected", _money(values["money.rejected"]), "the sums hold" if values.get("sums.hold") else "")
    table.add_row("profiles", f"{values['profiles.count']:,}", f"{values['profiles.identified']:,} identified")
    fresh = f"p99 {values['freshness.p99_s']:.2f} s"
    table.add_row("freshness", f"{values['freshness.p50_s']:.2f} s", f"{fresh}, received to readable")
    table.add_row("clock", str(values["clock"])[:16], "the newest event's")
    return table


def _segments(values: Values) -> Table:
    """One line a family: life cycle of all profiles, RFM of those who bought."""
    table = Table.grid(padding=(0, 1))
    table.title, table.title_style, table.title_justify = "Segments", "bold", "left"
    sizes = {key.removeprefix("segments."): count for key, count in values.items() if key.startswith("segments.")}
    life_cycle = [key for key in LIFE_CYCLE if key in sizes]
    table.add_row(_sizes({key: sizes[key] for key in life_cycle}))
    table.add_row(_sizes({key: count for key, count in sizes.items() if key not in life_cycle}))
    return table


def _sizes(sizes: dict[str, int]) -> Text:
    text = Text()
    for key, count in sizes.items():
        text.append(f"{key.replace('_', ' ')} ").append(f"{count:,}", style="cyan").append("   ")
    return text


def _churn(values: Values) -> Table:
    table = _grid(f"Churn, judged as of {str(values.get('churn.as_of'))[:10]}")
    if "churn.auc" not in values:
        table.add_row("no judgement", "", str(values.get("missing.churn.auc") or values.get("missing.churn") or ""))
        return table
    interval = f"[{values['churn.auc_low']:.3f}, {values['churn.auc_high']:.3f}], of {values['churn.rows']:,} customers"
    table.add_row("AUC", f"{values['churn.auc']:.3f}", interval)
    table.add_row(
        "  recency rule", _decimals(values, "churn.recency_auc"), f"logistic {_decimals(values, 'churn.logistic_auc')}"
    )
    recent = (
        f"recency {_decimals(values, 'churn.recency_auc_recent')}, logistic {_decimals(values, 'churn.logistic_auc_recent')}"
    )
    table.add_row("  bought lately", _decimals(values, "churn.auc_recent"), recent)
    table.add_row("calibration error", _decimals(values, "churn.ece"), f"churn rate {values['churn.rate']:.3f}")
    name = f"{values['churn.model_name']} version {values['churn.model_version']} @{values.get('churn.alias', '')}"
    table.add_row("model", "", f"{name}, digest {values['churn.digest'][:12]}")
    table.add_row("verdict", "", VERDICTS[values["churn.verdict"]])
    return table


def _outcome(values: Values) -> Table:
    table = _grid("Recommendation, feedback, effect")
    if values.get("recommendation.hit_rate_at_10") is not None:
        for key, label in (("hit_rate_at_10", "hit rate at 10"), ("new_hit_rate_at_10", "  items new to them")):
            popular = values.get(f"recommendation.popular_{key}")
            of = f"of {values[f'recommendation.{key}_customers']:,}"
            table.add_row(label, _decimals(values, f"recommendation.{key}"), f"most popular {popular:.3f}, {of}")
    if values.get("nps.value") is not None:
        interval = f"[{values['nps.low']:.1f}, {values['nps.high']:.1f}], true {values['nps.truth']:.1f}"
        table.add_row("NPS", f"{values['nps.value']:.1f}", f"{interval}, {values['nps.answers']:,} answers")
    if values.get("experiment.effect") is not None:
        interval = (
            f"[{values['experiment.low']:+.3f}, {values['experiment.high']:+.3f}], true {values['experiment.truth']:+.3f}"
        )
        table.add_row("offer's effect", f"{values['experiment.effect']:+.3f}", f"{interval}: {values['experiment.verdict']}")
    for name in ("equal", "faulty"):
        if f"rollout.{name}" in values:
            table.add_row(f"rollout, {name}", "", str(values[f"rollout.{name}"]).replace("_", " "))
    table.add_row("seconds", f"{values['seconds.total']:.0f}", ", ".join(_phases(values)))
    return table


def _phases(values: Values) -> list[str]:
    skipped = {"seconds.total", "seconds.this_run"}
    phases = {key: value for key, value in values.items() if key.startswith("seconds.") and key not in skipped}
    longest = sorted(phases, key=lambda key: -phases[key])[:4]
    return [f"{key.removeprefix('seconds.')} {phases[key]:.0f}" for key in longest]


def _decimals(values: Values, key: str) -> str:
    value = values.get(key)
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _money(text: str) -> str:
    return f"{float(text):,.2f}"
