"""MLflow's tracking server: one process, SQLite and a folder, artifacts through its own proxy.

`mlflow server` starts ten processes and takes gigabytes. uvicorn alone with MLflow's Flask application takes 210 MB: 15 MB less
than its ASGI application, which adds an assistant that runs shell commands and a gateway to language models, both not wanted.
"""

import sys
from pathlib import Path

from infra.ports import HOST

# Gives way while all others start; not so much that a promotion would wait for it later.
NICENESS = 5


def command(port: int, *, host: str = HOST) -> list[str]:
    options = ["--host", host, "--port", str(port), "--workers", "1", "--no-access-log", "--interface", "wsgi"]
    return [sys.executable, "-m", "uvicorn", *options, "mlflow.server:app"]


def environment(folder: Path) -> dict[str, str]:
    """The underscored names are what `mlflow server` itself sets for its workers. Clients need no more than the URL."""
    return {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": (folder / "artifacts").as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*,localhost:*",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MALLOC_ARENA_MAX": "2",
    }
