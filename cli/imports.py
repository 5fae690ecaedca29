"""`rapport import`: sends a file to the gateway as an import job, and follows it to its end.

The key comes from RAPPORT_KEY, a private one with the scope `ingest`; the address of the gateway from RAPPORT_GATEWAY_URL, else
it is on this machine.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from cli.models import KEY_VARIABLE, URL_VARIABLE
from infra.failure import Refusal
from infra.ports import HOST

BLOCK_BYTES: Final = 256 * 1024
LOOK_S: Final = 0.5
# How long the gateway may be away while a job is followed.
PATIENCE_S: Final = 60.0
SHOWN_REJECTIONS: Final = 10
_ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
_FORMATS: Final = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"
}  # fmt: skip
_FATES: Final = ("accepted", "duplicate", "rejected", "quarantined")

app = typer.Typer(add_completion=False)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV or Parquet; plain, or .gz.")],
    format_: Annotated[str, typer.Option("--format", help="jsonl, csv or parquet; by the file's name if none.")] = "",
    mapping: Annotated[str, typer.Option(help="Which column is what: JSON, or a file that holds it.")] = "",
    source: Annotated[str, typer.Option(help="Where the rows come from.")] = "import",
    port: Annotated[int, typer.Option(help="The gateway's port.")] = 8080,
) -> None:
    """Import a file of events."""
    if not (key := os.environ.get(KEY_VARIABLE)):
        raise Refusal(
            f"Set {KEY_VARIABLE} to a private key with the scope ingest: "
            "rapport keys create TENANT --kind private --scope ingest."
        )
    is_packed = file.suffix == ".gz"
    found = format_ or _FORMATS.get(Path(file.stem).suffix if is_packed else file.suffix, "")
    if found not in _FORMATS.values():
        raise Refusal(f"Say what {file.name} is: --format jsonl, csv or parquet.")
    url = os.environ.get(URL_VARIABLE) or f"http://{HOST}:{port}"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
    parameters = {"format": found, "source": source, **({"mapping": _mapping(mapping)} if mapping else {})}
    timeout = httpx.Timeout(60.0, write=None)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False) as client, _bar() as bar:
        job = _follow(client, bar, _send(client, bar, file, parameters, is_packed=is_packed))
        _show(client, job)
    if job["state"] != "succeeded":
        raise typer.Exit(1)


def _mapping(given: str) -> str:
    """The JSON itself, or what the file of that name holds."""
    if given.lstrip().startswith("{"):
        return given
    try:
        return json.dumps(json.loads(Path(given).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Refusal(f"The mapping {given} can't be read: {error}.") from None


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[rows]}"))


def _send(client: httpx.Client, bar: Progress, file: Path, parameters: dict[str, str], *, is_packed: bool) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        task = bar.add_task("sending", total=size, rows="")
        with file.open("rb") as opened:
            content = _blocks(opened, bar, task)
            headers = {"Content-Encoding": "gzip"} if is_packed else {}
            answer = client.post("/v1/import-jobs", params=parameters, content=content, headers=headers)
    except OSError as error:
        raise Refusal(f"The file {file} can't be read: {error.strerror}.") from None
    except httpx.TransportError as error:
        raise Refusal(f"The gateway at {client.base_url} does not answer ({type(error).__name__}).") from None
    return _answer(answer)


def _blocks(file: Any, bar: Progress, task: TaskID) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block
        bar.advance(task, len(block))


def _follow(client: httpx.Client, bar: Progress, job: dict[str, Any]) -> dict[str, Any]:
    task = bar.add_task("importing", total=job["sizeBytes"], rows="")
    seen = time.monotonic()
    while job["state"] not in _ENDED:
        time.sleep(LOOK_S)
        try:
            job = _answer(client.get(f"/v1/import-jobs/{job['importJobId']}"))
            seen = time.monotonic()
        except (httpx.TransportError, _Away):
            if time.monotonic() - seen > PATIENCE_S:
                raise Refusal(f"The gateway is gone. The job {job['importJobId']} goes on without it.") from None
        rows = f"{job['rowCount']:,} rows, {job['rowsPerS']:,.0f}/s"
        bar.update(task, completed=job["readBytes"], rows=rows, description=job["state"])
    bar.update(task, completed=job["readBytes"])
    return job


class _Away(Exception):
    """The gateway, or what is behind it, cannot answer now."""


def _answer(answer: httpx.Response) -> dict[str, Any]:
    """Raises Refusal with what the gateway says."""
    if answer.is_success:
        return answer.json()
    if answer.status_code in (429, 503) and answer.request.method == "GET":
        raise _Away
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise Refusal(f"{answer.status_code} {problem.get('code', '')}: {problem.get('detail', answer.reason_phrase)}")


def _show(client: httpx.Client, job: dict[str, Any]) -> None:
    console = Console()
    fates = ", ".join(f"{job[f'{fate}Count']:,} {fate}" for fate in _FATES)
    console.print(f"import job {job['importJobId']}: {job['state']}; {job['rowCount']:,} rows: {fates}", highlight=False)
    if job["error"]:
        console.print(f"{job['error']['reason']}: {job['error']['message']}", highlight=False)
    if job["rejectedCount"]:
        path = f"/v1/import-jobs/{job['importJobId']}/rejections"
        for each in _answer(client.get(path, params={"limit": SHOWN_REJECTIONS}))["data"]:
            console.print(f"row {each['row']:,}: {each['reason']} {each['field']}: {each['message']}", highlight=False)
        console.print(f"All of them: GET {path}?format=csv", highlight=False)
