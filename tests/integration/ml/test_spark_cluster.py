"""The job that its docstring names, sent by spark-submit to a Spark of several processes: a master, a worker, its executors."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from infra.ports import HOST, free_port
from ml.features import catalogue
from tests.integration.ml import three
from tests.integration.ml.timelines import INSTANTS, export, world

ROOT = Path(__file__).resolve().parents[3]
START_S = 60
SET = "churn"


@contextmanager
def running(folder: Path, main_class: str, *words: str, until: str) -> Iterator[Path]:
    """A process of Spark's until the end of the block; its log, which says `until` once it is up."""
    import pyspark

    home = Path(pyspark.__file__).parent
    log = folder / f"{main_class.rsplit('.', 1)[1]}.log"
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": HOST, "SPARK_DAEMON_MEMORY": "256m"}
    command = [str(home / "bin" / "spark-class"), main_class, *words]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        end = time.monotonic() + START_S
        while until not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield log
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def spark_cluster(folder: Path) -> Iterator[str]:
    """The address of a master that has a worker."""
    port, pages = free_port(), free_port()
    address = f"spark://{HOST}:{port}"
    master = ["--host", HOST, "--port", str(port), "--webui-port", str(pages)]
    worker = [
        "--host",
        HOST,
        "--cores",
        "2",
        "--memory",
        "1g",
        "--webui-port",
        "0",
        "--work-dir",
        str(folder / "work"),
        address,
    ]
    place = "org.apache.spark.deploy"
    with (
        running(folder, f"{place}.master.Master", *master, until="New state: ALIVE"),
        running(folder, f"{place}.worker.Worker", *worker, until="Successfully registered"),
    ):
        yield address


@pytest.mark.timeout(300)
def test_a_cluster_computes_the_features_that_one_machine_computes(tmp_path: Path) -> None:
    if shutil.which("java") is None:
        pytest.skip("Spark is not started: there is no Java here")
    made = world(3, profile_count=20)
    archive, spine, out = tmp_path / "archive", tmp_path / "spine.parquet", tmp_path / "out"
    export(archive, made)
    pq.write_table(three.spine_of(made.profile_ids, INSTANTS), spine)
    with spark_cluster(tmp_path) as address:
        submit = Path(sys.executable).parent / "spark-submit"
        settings = ["--conf", f"spark.driver.host={HOST}", "--conf", "spark.ui.enabled=false", "--executor-memory", "512m"]
        job = [str(ROOT / "ml" / "features" / "spark.py"), str(archive), str(spine), str(out), SET]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen", "PYSPARK_PYTHON": sys.executable}
        command = [str(submit), "--master", address, *settings, *job]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        assert list((tmp_path / "work").glob("app-*/0")), "no executor of the worker had a part in it"
    features = catalogue.SETS[SET]
    found = three.of_table(pq.read_table(out), features)
    alone = three.duckdb(archive, features, made.profile_ids, INSTANTS)
    compared = three.compare(features, alone, found)
    print(f"\n{compared.cells} cells of a Spark cluster and of DuckDB compared, {len(compared.differing)} differing")
    assert compared.cells > 0
    assert compared.differing[:5] == []
