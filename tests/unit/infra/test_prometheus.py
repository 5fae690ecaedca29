"""What Prometheus is told."""

import json
from pathlib import Path

from infra.prometheus import Prometheus, command, find, write_configuration
from infra.topology import Ports


def test_every_service_is_a_job_and_the_candidate_a_target_of_its_service(tmp_path: Path) -> None:
    told = json.loads(write_configuration(tmp_path, Ports(8080)).read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in told["scrape_configs"]}
    assert jobs["scoring"] == ["127.0.0.1:8093", "127.0.0.1:8111"]
    assert jobs["gateway"] == ["127.0.0.1:8090"]
    assert len(jobs) == 7
    assert told["global"]["scrape_interval"] == "5s"


def test_it_judges_by_the_rules_of_the_cluster(tmp_path: Path) -> None:
    [pattern] = json.loads(write_configuration(tmp_path, Ports(8080)).read_text())["rule_files"]
    assert {path.stem for path in Path(pattern).parent.glob("*.yaml")} >= {"availability", "database", "log", "recording"}


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    assert "--web.listen-address=127.0.0.1:8102" in command(Prometheus(Path("/p"), None), tmp_path, 8102)


def test_what_is_in_the_cache_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "bin"
    folder.mkdir(parents=True)
    for name in ("prometheus", "promtool"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    found = find(tmp_path)
    assert found is not None
    assert found.promtool is not None
