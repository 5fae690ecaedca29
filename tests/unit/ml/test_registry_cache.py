"""The local cache of models, written by several at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ml import registry


def test_who_writes_the_same_version_at_the_same_time_is_in_nobodys_way(tmp_path: Path) -> None:
    folder, files = (
        tmp_path / "shop.churn" / "1",
        {"model.ubj": b"m" * 10_000, "bundle.json": b"{}", registry._DIGEST_FILE: b"d"},
    )

    def write(_: int) -> None:
        registry._write(folder, files)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {path.name for path in folder.parent.iterdir()} <= {"1", ".lock"}
