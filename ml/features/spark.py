"""The archive read by Spark: the same definitions, for more history than one machine has memory for.

    spark-submit --master spark://... ml/features/spark.py <archive> <spine> <out> [set]

with the project and protos/gen in PYTHONPATH; or, on this machine, `python -m ml.features.spark`. `archive`: what
profiles.ExportLog wrote, a folder or an address of object storage; `spine`: Parquet of profile_id and as_of; `out`: a folder
that is not there yet; `set`: of the catalogue.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# Why: Spark's types are loose, and Arrow has none.

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from rapport.features.v1 import features_pb2 as pb

from ml.features import catalogue
from ml.features.compile import compile_distributed

# Nothing of the answer depends on the session's time zone but how a time is handed over.
_UTC: Final = ("spark.sql.session.timeZone", "UTC")
# Spark's own way to write a time says nothing of its zone.
_AS_MOMENTS: Final = ("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
_LOCAL: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    # What has ended is kept for a page that nobody shows; plans of a hundred features fill the memory after some dozens.
    "spark.ui.retainedJobs": "1",
    "spark.ui.retainedStages": "1",
    "spark.ui.retainedTasks": "1",
    "spark.sql.ui.retainedExecutions": "1",
}


@contextmanager
def local_session(*, cores: int, memory: str, folder: Path) -> Generator[SparkSession]:
    """In this process' own Java machine. `folder` takes what Spark writes for itself."""
    builder = SparkSession.builder.master(f"local[{cores}]").appName("rapport-features")
    own = {
        "spark.driver.memory": memory,
        "spark.sql.shuffle.partitions": str(cores),
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    for name, value in (_LOCAL | own).items():
        builder = builder.config(name, value)
    started = builder.getOrCreate()
    started.sparkContext.setLogLevel("ERROR")
    try:
        yield started
    finally:
        started.stop()


def feature_frame(spark: SparkSession, archive: str, features: Sequence[pb.Feature], spine: DataFrame) -> DataFrame:
    """profile_id, as_of, a column for each feature, newest_event; one row for each of `spine`, in no order."""
    spark.conf.set(*_UTC)
    spark.read.parquet(f"{archive}/events/*/*.parquet").createOrReplaceTempView("events")
    spark.read.parquet(f"{archive}/identities/*.parquet").createOrReplaceTempView("identities")
    spine.createOrReplaceTempView("spine")
    return spark.sql(compile_distributed(features).sql)


def feature_table(spark: SparkSession, archive: str, features: Sequence[pb.Feature], spine: pa.Table) -> pa.Table:
    """The same, brought here."""
    spark.conf.set(*_UTC)
    return feature_frame(spark, archive, features, spark.createDataFrame(spine)).toArrow()


def main() -> None:
    """Entry point of a job: where the session comes from, spark-submit says."""
    archive, spine, out = sys.argv[1:4]
    spark = SparkSession.builder.appName("rapport-features").getOrCreate()
    spark.conf.set(*_AS_MOMENTS)
    features = catalogue.SETS[sys.argv[4] if len(sys.argv) > 4 else "churn"]
    feature_frame(spark, archive, features, spark.read.parquet(spine)).write.parquet(out)
    spark.stop()


if __name__ == "__main__":
    main()
