"""kubectl and helm, as an operator types them. Every wait is bounded."""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SERVICES = ("gateway", "profiles", "segmentation", "scoring", "recommendation", "feedback", "evaluation")


def run(*command: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
    """What the command prints. Raises AssertionError with its words where it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout


def until(what: str, ask: Callable[[], Any], *, patience_s: float = 120.0, pause_s: float = 0.5) -> Any:
    """Asks until the answer is true."""
    end = time.monotonic() + patience_s
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited {patience_s:.0f} s for {what}"
        time.sleep(pause_s)
    return answer


@dataclass(frozen=True, slots=True)
class Kube:
    """One namespace of the cluster that KUBECONFIG names."""

    namespace: str

    def ctl(self, *words: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
        return run("kubectl", "-n", self.namespace, *words, stdin=stdin, timeout_s=timeout_s)

    def get(self, *words: str) -> Any:
        """The answer of `kubectl get ... -o json`."""
        return json.loads(self.ctl("get", *words, "-o", "json"))

    def helm(self, *words: str, timeout_s: float = 400.0) -> str:
        return run("helm", "-n", self.namespace, *words, timeout_s=timeout_s)

    def pods(self, component: str) -> list[Any]:
        """Those of a component that have not been told to go."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, component: str) -> list[str]:
        """Their names."""
        return [pod["metadata"]["name"] for pod in self.pods(component) if is_ready(pod)]

    def rolled_out(self, *services: str) -> None:
        """Waits until each Deployment has replaced all its pods."""
        for service in services:
            self.ctl("rollout", "status", f"deployment/{service}", "--timeout=240s", timeout_s=250)

    def restart(self, *services: str) -> None:
        """One rolling restart of each, side by side."""
        self.ctl("rollout", "restart", *(f"deployment/{service}" for service in services))
        self.rolled_out(*services)

    def evict(self, pod: str) -> None:
        """As `kubectl drain` does: asks again while a disruption budget forbids it."""
        place = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        meta = {"name": pod, "namespace": self.namespace}
        body = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta})

        def ask() -> bool:
            done = subprocess.run(["kubectl", "create", "--raw", place, "-f", "-"], input=body, capture_output=True, text=True)
            assert done.returncode == 0 or "disruption budget" in done.stderr, done.stderr
            return done.returncode == 0

        until(f"the eviction of {pod}", ask, patience_s=180, pause_s=1)

    def python(self, workload: str, *words: str, timeout_s: float = 120.0) -> str:
        """What Python prints inside a workload's container."""
        return self.ctl("exec", workload, "--", "python", *words, timeout_s=timeout_s)

    def at_postgres(self, command: str) -> str:
        """What a command prints beside the development PostgreSQL, whose tools take it for the administrator."""
        password = base64.b64decode(self.get("secret", "postgres-admin")["data"]["password"]).decode()
        inside = f"export PGPASSWORD='{password}'; {command}"
        return self.ctl("exec", "postgres-0", "--", "sh", "-c", inside, timeout_s=200).strip()

    def sql(self, statement: str, database: str = "rapport") -> str:
        """The rows that it answers, columns apart by |."""
        return self.at_postgres(f'psql -U postgres -h 127.0.0.1 -At -d {database} -c "{statement}"')

    def job_of(self, cronjob: str, name: str) -> None:
        """Starts a CronJob's work now."""
        self.ctl("create", "job", name, f"--from=cronjob/{cronjob}")

    def job_ended(self, name: str, *, patience_s: float) -> str:
        """Waits for the end of a Job; its log. Fails, with the log, where the Job failed."""

        def state() -> str:
            status = self.get("job", name).get("status", {})
            return "ok" if status.get("succeeded") else "failed" if status.get("failed") else ""

        outcome = until(f"the Job {name}", state, patience_s=patience_s, pause_s=2)
        log = self.ctl("logs", f"job/{name}")
        assert outcome == "ok", f"the Job {name} failed:\n{log[-3000:]}"
        return log

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """http://127.0.0.1:<a free port> that leads to a port of a Service or pod."""
        command = ["kubectl", "-n", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout
                line = process.stdout.readline()
                assert "Forwarding from 127.0.0.1:" in line, line
                yield f"http://127.0.0.1:{line.split('127.0.0.1:')[1].split(' ')[0]}"
            finally:
                process.terminate()


def is_ready(pod: Any) -> bool:
    conditions: Sequence[Any] = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
