"""`rapport train | evaluate | promote | rollback | models`: what ML engineers do, through the gateway's API.

The key comes from RAPPORT_KEY, else from the state folder's demonstration tenant; the address of the gateway from
RAPPORT_GATEWAY_URL, of MLflow from MLFLOW_TRACKING_URI, else both are on this machine.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from chassis.errors import Error
from demo.client import Client, ClientError, connect
from infra.failure import Refusal
from infra.ports import HOST
from infra.state import State
from infra.topology import Ports

Outcome = TypeVar("Outcome")

MODELS: Final = ("churn",)
KEY_VARIABLE: Final = "RAPPORT_KEY"
URL_VARIABLE: Final = "RAPPORT_GATEWAY_URL"
BATCH: Final = 1000
# How long evaluation may take to see scores that were just recorded.
PATIENCE_S: Final = 120.0

app = typer.Typer(add_completion=False)

ModelArgument = Annotated[str, typer.Argument(help="A kind of model; there is churn.")]
VersionOption = Annotated[str, typer.Option("--version", help="A registered version.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]
TenantOption = Annotated[str, typer.Option(help="The tenant, where the state folder has keys of several.")]
StateOption = Annotated[Path, typer.Option(help="The platform's state folder.")]
PortOption = Annotated[int, typer.Option(help="The gateway's port.")]
_STATE: Final = Path(".rapport")
_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class Access:
    """Where the platform is, and as whom to ask it."""

    gateway_url: str
    mlflow_url: str
    key: str


@app.command("train")
def train(model: ModelArgument, tenant: TenantOption = "", state: StateOption = _STATE, port: PortOption = _PORT) -> None:
    """Export the log, train on it, register the model as challenger."""
    access = _access(model, tenant, state, port)
    with _waiting("Exporting the log"):
        exported = _ask(access, lambda client: client.call("POST", "/v1/exports", {}))
    folder = Path(exported["path"])
    with _waiting(f"Training {model} on {exported['eventCount']:,} events"):
        # Imported where it is used: it takes seconds.
        from ml.training.churn import train_and_register

        published = _or_refuse(lambda: train_and_register(folder, tenant=folder.name, mlflow_url=access.mlflow_url))
    print(
        f"{published.registered_name} version {published.version}: {'registered' if published.created else 'was there already'}"
    )
    print(f"digest {published.digest}, judged at {published.judged_at}, trained on what had ended by then")
    _show_metrics(published.metrics)


def _show_metrics(metrics: dict[str, float]) -> None:
    table = Table("customers", "rows", "churned", "AUC", "95 %", "calibration error", "recency alone", "logistic")
    for title, suffix in (("all", ""), ("with an order in 90 days", "_recent")):
        found = {key: metrics.get(f"{key}{suffix}") for key in ("rate", "auc", "auc_low", "auc_high", "ece")}
        others = [_three(metrics.get(f"{name}_auc{suffix}")) for name in ("recency", "logistic")]
        interval = f"{_three(found['auc_low'])} to {_three(found['auc_high'])}"
        numbers = [_three(found["auc"]), interval, _three(found["ece"]), *others]
        table.add_row(title, f"{metrics.get(f'rows{suffix}', 0):,.0f}", _three(found["rate"]), *numbers)
    Console().print(table)


@app.command("evaluate")
def evaluate(
    model: ModelArgument,
    version: VersionOption,
    as_of: Annotated[str, typer.Option(help="ISO-8601; the instant it was not trained up to, where it is not given.")] = "",
    tenant: TenantOption = "",
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Score every known customer as of an instant in the past, and compare with what they did next."""
    access = _access(model, tenant, state, port)
    found = _ask(access, lambda client: _evaluate(client, access, model, version, as_of))
    metrics = {
        "rows": found["rowCount"],
        "rows_recent": found["recentCount"],
        "rate": found["rate"],
        "auc": found["auc"],
        "auc_low": found["aucLow"],
        "auc_high": found["aucHigh"],
        "ece": found["ece"],
        "recency_auc": found["recencyAuc"],
        "logistic_auc": found["logisticAuc"],
        "auc_recent": found["aucRecent"],
        "ece_recent": found["eceRecent"],
        "recency_auc_recent": found["recencyAucRecent"],
        "logistic_auc_recent": found["logisticAucRecent"],
    }
    print(f"{model} version {version} as of {found['asOf']}: {found['verdict']}. {found['explanation']}")
    _show_metrics(metrics)


async def _evaluate(client: Client, access: Access, model: str, version: str, as_of: str) -> dict[str, Any]:
    as_of = as_of or await _judged_at(client, access, model, version)
    refs = await _identified(client)
    scored = 0
    with _waiting("Scoring") as progress:
        for start in range(0, len(refs), BATCH):
            body = {"refs": refs[start : start + BATCH], "model": model, "version": version, "at": as_of}
            answer = await client.call("POST", "/v1/scores:batch", body)
            scored += sum(1 for result in answer["results"] if result.get("score"))
            progress.update(progress.task_ids[0], description=f"{scored:,} scores of {start + len(body['refs']):,} customers")
    return await _judgement(client, model, {"version": version, "asOf": as_of}, scored)


async def _judgement(client: Client, model: str, body: dict[str, str], scored: int) -> dict[str, Any]:
    """Evaluation reads scores from the log, a moment after they were recorded."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = await client.call("POST", f"/v1/models/{model}/evaluations", body)
        if found["rowCount"] >= scored or time.monotonic() > until:
            return found
        await asyncio.sleep(1)


async def _identified(client: Client) -> list[str]:
    refs: list[str] = []
    params: dict[str, Any] = {"limit": BATCH, "identified": "true"}
    while True:
        page = await client.call("GET", "/v1/profiles", params=params)
        refs += [profile["profileId"] for profile in page["data"]]
        if not page["hasMore"]:
            return refs
        params["next"] = page["next"]


async def _judged_at(client: Client, access: Access, model: str, version: str) -> str:
    listed = (await client.call("GET", f"/v1/models/{model}/versions"))["data"]
    name = next((each["registeredName"] for each in listed if each["version"] == version), None)
    if name is None:
        raise Refusal(f"There is no version {version} of {model}.")
    from ml.tracking import Tracking

    judged_at = (await asyncio.to_thread(Tracking(access.mlflow_url).find, name, version)).judged_at
    if not judged_at:
        raise Refusal(f"Version {version} does not say up to when it was trained: give --as-of.")
    return judged_at


@app.command("promote")
def promote(
    model: ModelArgument,
    version: VersionOption,
    reason: ReasonOption,
    tenant: TenantOption = "",
    state: StateOption = _STATE,
    port: PortOption = _PORT,
) -> None:
    """Make a version champion. Refused where it was not evaluated, or loses to the recency rule."""
    body = {"version": version, "reason": reason}
    access = _access(model, tenant, state, port)
    _show_promotion(_ask(access, lambda client: client.call("POST", f"/v1/models/{model}:promote", body)))


@app.command("rollback")
def rollback(
    model: ModelArgument, reason: ReasonOption, tenant: TenantOption = "", state: StateOption = _STATE, port: PortOption = _PORT
) -> None:
    """Make the champion before champion again."""
    access = _access(model, tenant, state, port)
    _show_promotion(_ask(access, lambda client: client.call("POST", f"/v1/models/{model}:rollback", {"reason": reason})))


def _show_promotion(promotion: dict[str, Any]) -> None:
    before = f"version {promotion['fromVersion']}" if promotion["fromVersion"] else "none"
    print(f"{promotion['registeredName']}: champion is version {promotion['toVersion']}, before {before} ({promotion['kind']})")


@app.command("models")
def models(model: ModelArgument, tenant: TenantOption = "", state: StateOption = _STATE, port: PortOption = _PORT) -> None:
    """List the versions, and who promoted what, when and why."""
    access = _access(model, tenant, state, port)

    async def look(client: Client) -> list[list[dict[str, Any]]]:
        paths = (f"/v1/models/{model}/{what}" for what in ("versions", "evaluations", "promotions"))
        return [(await client.call("GET", path))["data"] for path in paths]

    versions, evaluations, promotions = _ask(access, look)
    judged = {each["version"]: each for each in reversed(evaluations)}
    table = Table("version", "aliases", "registered", "AUC", "verdict", "digest", "features")
    for each in versions:
        found = judged.get(each["version"], {})
        numbers = [_three(found.get("auc")), found.get("verdict", "not evaluated")]
        digests = [each["digest"][:12], each["featureDigest"][:12]]
        table.add_row(each["version"], ", ".join(each["aliases"]), each["created"], *numbers, *digests)
    Console().print(table if versions else f"There is no version of {model} yet: rapport train {model}.")
    for each in promotions:
        move = f"{each['fromVersion'] or 'none'} -> {each['toVersion']}"
        print(f"{each['promoted']}  {each['kind']}  {move}  by {each['actor']}: {each['reason']}")


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _waiting(what: str) -> Progress:
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), transient=True)
    progress.add_task(what, total=None)
    return progress


def _access(model: str, tenant: str, state: Path, port: int) -> Access:
    if model not in MODELS:
        raise Refusal(f"There is no model {model!r}; there is {', '.join(MODELS)}.")
    ports = Ports(port)
    mlflow_url = os.environ.get("MLFLOW_TRACKING_URI") or f"http://{HOST}:{ports.mlflow}"
    gateway_url = os.environ.get(URL_VARIABLE) or f"http://{HOST}:{port}"
    return Access(gateway_url, mlflow_url, os.environ.get(KEY_VARIABLE) or _key_of(tenant, state))


def _key_of(tenant: str, state: Path) -> str:
    """The private key that the demonstration left in the state folder."""
    folder = State(state.expanduser().resolve()).secrets
    found = {path.stem: path for path in sorted(folder.glob("*.json"))} if folder.is_dir() else {}
    if not found:
        raise Refusal(
            f"There is no key in {folder}: set {KEY_VARIABLE} to a private key, or name the state folder with --state."
        )
    if not tenant and len(found) > 1:
        raise Refusal(f"{folder} has keys of {', '.join(found)}: say which with --tenant.")
    if tenant and tenant not in found:
        raise Refusal(f"{folder} has no key of {tenant}, only of {', '.join(found)}; or set {KEY_VARIABLE}.")
    return str(json.loads(found[tenant or next(iter(found))].read_text())["privateKey"])


def _ask(access: Access, work: Callable[[Client], Coroutine[Any, Any, Outcome]]) -> Outcome:
    """Raises Refusal with what the gateway says."""

    async def carry_out() -> Outcome:
        async with connect(access.gateway_url, access.key, timeout_s=300.0) as client:
            return await work(client)

    return _or_refuse(lambda: asyncio.run(carry_out()))


def _or_refuse(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except ClientError as error:
        raise Refusal(str(error)) from None
    except Error as error:
        raise Refusal(f"{error.message[:1].upper()}{error.message[1:]}".rstrip(".") + ".") from None
