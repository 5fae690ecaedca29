"""FULL=1: every command of every runbook is typed on the cluster, as it stands there."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.cluster.conftest import FULL, TENANT, Installed
from tests.cluster.kube import SERVICES, run

pytestmark = pytest.mark.skipif(not FULL, reason="FULL=1 types them all")
ROOT = Path(__file__).resolve().parents[2]
SCOPES = ("ingest", "read", "personal", "manage", "score", "answers", "models")
# What a development cluster cannot show, and why.
NOT_HERE = {
    "--previous": "no container of the pod has ended yet",
    "patch persistentvolumeclaim": "the test cluster's volumes have one size",
    "replay_dead": "the log is followed in PostgreSQL, which sets nothing aside",
    "deploy/relay": "there is no relay",
    "log.source=postgres": "it is",
}
# Two runbooks make the champion before champion again, and there was one.
TWICE = "NO_PREVIOUS_MODEL"
FORWARD = re.compile(r"^kubectl port-forward \S+ (\d+) &$", re.MULTILINE)
WRONG = re.compile(r"error|not found|refused|forbidden|invalid|unknown", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together."""

    runbook: str
    section: str
    script: str


def blocks_of(runbook: Path) -> Iterator[Block]:
    """What is indented, by section."""
    section, lines = "", list[str]()
    for line in [*runbook.read_text().splitlines(), "end"]:
        if re.match(r" {4,}\S", line):
            lines.append(line)
        elif lines:
            yield Block(runbook.stem, section, textwrap.dedent("\n".join(lines)))
            lines = []
        section = line[3:] if line.startswith("## ") else section


def blocks(*sections: str) -> list[Block]:
    """Each script once, by the runbook that has it first."""
    found: dict[str, Block] = {}
    for runbook in sorted((ROOT / "docs" / "runbooks").glob("*.md")):
        for block in blocks_of(runbook):
            if block.section in sections:
                found.setdefault(block.script, block)
    return list(found.values())


@pytest.fixture(scope="module")
def surroundings(installed: Installed, challenger: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An operator's: the namespace chosen, a private key at hand, `rapport` in PATH."""
    config = tmp_path_factory.mktemp("kube") / "config"
    config.write_text(run("kubectl", "config", "view", "--raw", "--flatten"))
    environment = {
        **os.environ,
        "KUBECONFIG": str(config),
        "HELM_NAMESPACE": installed.kube.namespace,
        "KEY": installed.key(TENANT, "--kind", "private", "--scopes", *SCOPES),
        "TENANT": TENANT,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    choose = ["kubectl", "config", "set-context", "--current", "--namespace", installed.kube.namespace]
    subprocess.run(choose, env=environment, check=True, capture_output=True)
    return environment


def typed(block: Block, surroundings: Mapping[str, str]) -> str:
    """Runs the lines, forwards ports for as long as they take; what went wrong, "" if nothing did."""
    lines = [line for line in block.script.splitlines() if not any(words in line for words in NOT_HERE)]
    if not lines:
        return ""
    wait = r"\g<0>" + "\nfor _ in $(seq 50); do curl -s -o /dev/null http://127.0.0.1:\\1 && break; sleep 0.2; done"
    script = "set -e\n" + FORWARD.sub(wait, "\n".join(lines))
    with tempfile.TemporaryFile("w+") as out_file, tempfile.TemporaryFile("w+") as err_file:
        command = ["bash", "-c", script]
        process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings, stdout=out_file, stderr=err_file, start_new_session=True
        )
        try:
            process.wait(timeout=400)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # the port-forwards
            process.wait()
        out_file.seek(0)
        err_file.seek(0)
        out, err = out_file.read(), err_file.read()
    found_nothing = process.returncode == 1 and "| grep" in lines[-1]
    answered = set(re.findall(r'"code":"([A-Z_]+)"', out)) - {TWICE}
    if (process.returncode and not found_nothing) or WRONG.search(err) or answered:
        return f"{block.runbook}, {block.section}: {block.script}\nexit {process.returncode}: {err[-500:]} {answered}"
    return ""


@pytest.mark.timeout(400)
def test_what_a_runbook_asks_is_answered(surroundings: Mapping[str, str]) -> None:
    asked = blocks("Diagnosis")
    print(f"\n{len(asked)} blocks of commands, {sum(block.script.count('kubectl') for block in asked)} kubectl")
    assert [wrong for block in asked if (wrong := typed(block, surroundings))] == []


@pytest.mark.timeout(1800)
def test_what_a_runbook_changes_is_changed_and_everything_is_ready_after(
    installed: Installed, surroundings: Mapping[str, str]
) -> None:
    select = "SELECT pid FROM pg_stat_activity WHERE usename = 'rapport_feedback' LIMIT 1"
    for block in blocks("Mitigation"):
        script = block.script.replace("12345", installed.kube.sql(select))
        wrong = typed(replace(block, script=script), surroundings)
        assert wrong == ""
        installed.kube.ctl("rollout", "status", "statefulset/postgres", "--timeout=120s", timeout_s=130)
        installed.kube.rolled_out(*SERVICES)
