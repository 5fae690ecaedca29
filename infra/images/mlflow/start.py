"""MLflow's tracking server in a container: the command of one machine, on all addresses.

Settings in the environment go before those of one machine: MLFLOW_SERVER_ALLOWED_HOSTS names the hosts that clients ask for,
MLFLOW_BACKEND_STORE_URI (`postgresql://...`) and MLFLOW_ARTIFACTS_DESTINATION (`s3://...`) name other places than the volume.
"""

import os
from pathlib import Path

from infra import mlflow

STATE = Path("/var/lib/rapport/mlflow")
PORT = 5000


def main() -> None:
    """Never returns."""
    STATE.mkdir(parents=True, exist_ok=True)
    places = {
        "_MLFLOW_SERVER_FILE_STORE": os.environ.get("MLFLOW_BACKEND_STORE_URI"),
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": os.environ.get("MLFLOW_ARTIFACTS_DESTINATION"),
    }
    chosen = {name: place for name, place in places.items() if place}
    command = mlflow.command(PORT, host="0.0.0.0")  # noqa: S104
    os.execve(command[0], command, {**mlflow.environment(STATE), **os.environ, **chosen})  # noqa: S606


if __name__ == "__main__":
    main()
