"""The main job as a stranger sees it: seconds from an empty folder to the report, seconds to be up again, memory at rest.

Run: `python -m tests.bench.bench_run`. The simulated shop, then UCI Online Retail where its file is there.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from infra.children import proportional_set_size
from infra.ports import free_port

LIMIT_S: Final = 900
REST_S: Final = 20
UP: Final = b"Ctrl-C ends it"
SHARED: Final = Path(os.environ.get("RAPPORT_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")


def main() -> int:
    """Prints one line a figure."""
    folder = Path(tempfile.mkdtemp(prefix="rapport-bench-"))
    folder.chmod(0o755)
    try:
        measure("simulated shop", folder / "simulator", aim_s=120)
        retail = SHARED / "online_retail" / "online_retail.parquet"
        if retail.exists():
            measure("Online Retail", folder / "retail", "--data", str(retail), aim_s=300)
        else:
            print(f"Online Retail: not measured, {retail} is not there")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def measure(name: str, state: Path, *arguments: str, aim_s: float) -> None:
    """From empty to the report, memory after a rest, and once more on the same folder."""
    process, first_s = start(state, *arguments)
    report = json.loads((state / "report.json").read_text())
    phases = {key.removeprefix("seconds."): value for key, value in report.items() if key.startswith("seconds.")}
    print(f"{name}: {first_s:.0f} s from empty to the report (aim: {aim_s:.0f} s at most)")
    print(f"{name}: phases in seconds: " + ", ".join(f"{phase} {value:.1f}" for phase, value in phases.items()))
    time.sleep(REST_S)
    print(f"{name}: {proportional_set_size(process.pid) / 1e6:.0f} MB at rest, all processes (aim: 1500 MB at most)")
    stop(process)
    process, again_s = start(state, *arguments)
    stop(process)
    print(f"{name}: {again_s:.1f} s to be up again on the same folder (aim: under 15 s)")


def start(state: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], float]:
    """The platform once it is up, and how long that took. Exits where it does not come up."""
    output = state.with_suffix(".out")
    command = [sys.executable, "-m", "cli.main", "run", "--state", str(state), "--port", str(free_base()), *arguments]
    started = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    while UP not in output.read_bytes():
        if process.poll() is not None or time.monotonic() - started > LIMIT_S:
            process.kill()
            sys.exit(f"the platform did not come up:\n{output.read_text()[-2000:]}")
        time.sleep(0.1)
    return process, time.monotonic() - started


def stop(process: subprocess.Popen[bytes]) -> None:
    """In order."""
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def free_base() -> int:
    """A free port low enough for the ports that follow it."""
    while (port := free_port()) > 60_000:
        pass
    return port


if __name__ == "__main__":
    sys.exit(main())
