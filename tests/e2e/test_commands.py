"""What ML engineers and operators type, against a platform that runs."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.running import Running
from tests.e2e.shop import OpenShop, put, until
from tests.e2e.tenants import Tenant, new_key, new_tenant

Typed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rapport(platform: Running, shop: OpenShop) -> Typed:
    """`rapport(...)` as somebody who has the shop's key."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", *words, "--state", str(platform.state), "--port", str(platform.port)]
        environment = {**os.environ, "RAPPORT_KEY": shop.key, "COLUMNS": "200"}
        return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_a_model_is_trained_judged_promoted_listed_and_rolled_back(platform: Running, shop: OpenShop, rapport: Typed) -> None:
    with platform.client(shop.key) as client:
        champion = client.get("/v1/models/churn/serving").json()["version"]
        trained = said(rapport("train", "churn"))
        match = re.search(r"\.churn version (\d+): registered", trained)
        assert match, trained
        version = match[1]
        assert re.search(r"digest [0-9a-f]{64}, judged at", trained)
        early = rapport("promote", "churn", "--version", version, "--reason", "not judged yet")
        assert early.returncode == 2
        assert "Traceback" not in early.stderr
        judged = said(rapport("evaluate", "churn", "--version", version))
        assert re.search(rf"churn version {version} as of .*: (better|no_difference|worse|not_enough_data)\. AUC", judged), (
            judged
        )
        other = "1" if champion == "2" else "2"
        promoted = said(rapport("promote", "churn", "--version", other, "--reason", "typed by hand"))
        assert f"champion is version {other}, before version {champion} (promotion)" in promoted
        listed = said(rapport("models", "churn"))
        assert "typed by hand" in listed
        assert "champion" in listed
        back = said(rapport("rollback", "churn", "--reason", "typed by hand too"))
        assert f"champion is version {champion}, before version {other} (rollback)" in back
        assert put(client, f"/v1/profiles/{shop.profile_id}/score", {})["score"]


def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(rapport: Typed) -> None:
    for words, sentence in (
        (("train", "lifetime"), "There is no model 'lifetime'"),
        (("evaluate", "churn", "--version", "99"), "There is no version 99 of churn."),
        (("promote", "churn", "--version", "99", "--reason", "x"), "the registry has no version 99"),
    ):
        done = rapport(*words)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_key_is_made_used_listed_and_revoked(platform: Running, tenant: Tenant) -> None:
    key = platform.rapport("keys", "create", tenant.name, "--kind", "private", "--scope", "read").splitlines()[0]
    key_id = "_".join(key.split("_")[:2])
    with platform.client(key) as client:
        assert client.get("/v1/profiles").status_code == 200
        listed = platform.rapport("keys", "list", tenant.name)
        assert key_id in listed
        assert key not in listed
        platform.rapport("keys", "revoke", key_id)
        assert tenant.name in platform.rapport("tenants", "list")
        assert client.get("/v1/profiles").status_code in (200, 401)  # up to five seconds later


def test_a_tenant_whose_name_is_refused_is_not_half_made(rapport: Typed) -> None:
    for name in ("with_line", "x" * 41):
        assert rapport("tenants", "create", name).returncode == 2
        assert name not in said(rapport("tenants", "list"))


def test_a_file_is_imported_and_every_row_is_accounted_for(platform: Running, tmp_path: Path) -> None:
    tenant = new_tenant(platform, clock="events")
    key = new_key(platform, tenant.name, "ingest", "read")
    rows = [f"o{number},{'' if number % 10 == 0 else f'c{number % 37}'},{number}.5" for number in range(1, 2_001)]
    file = tmp_path / "orders.csv.gz"
    file.write_bytes(gzip.compress("\n".join(["Order,Customer,Total", *rows]).encode()))
    mapping = tmp_path / "mapping.json"
    columns = {"Order": "messageId", "Customer": "userId", "Total": {"field": "properties.total", "type": "number"}}
    mapping.write_text(json.dumps({"columns": columns, "constants": {"type": "track", "event": "Order Completed"}}))

    def run(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "import", str(file), "--port", str(platform.port), *words]
        environment = {**os.environ, "RAPPORT_KEY": key, "COLUMNS": "200"}
        return subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)

    told = said(run(file, "--mapping", str(mapping)))
    assert "succeeded; 2,000 rows: 1,800 accepted, 0 duplicate, 200 rejected, 0 quarantined" in told
    assert "row 10: MISSING_IDENTITY userId" in told
    again = said(run(file, "--mapping", str(mapping)))
    assert "2,000 rows: 0 accepted, 1,800 duplicate, 200 rejected" in again
    with platform.client(key) as client:
        until("the rows to be projected", lambda: client.get("/v1/profiles").json()["totalCount"] == 37)
    for words, sentence in (
        ((tmp_path / "none.csv",), "can't be read"),
        ((tmp_path / "orders.xlsx",), "Say what orders.xlsx is"),
    ):
        refused = run(*words)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
