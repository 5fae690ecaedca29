"""A person's values, looked for byte by byte in every file of the platform: never there, and after an erasure nothing is."""

import base64
import html
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow.parquet as pq
import pytest

from tests.e2e.running import Running
from tests.e2e.shop import until, wait_until_fresh
from tests.e2e.tenants import SCOPES, new_key, new_tenant

USER = "käthe.zwölfboxkampf-4711"
PERSONAL = {
    "email": "kaethe.zwoelfboxkampf@example.org",
    "phone": "+49 1525 9876543",
    "firstName": "Käthe-Quirina",
    "lastName": "Zwölfboxkampf",
    "birthday": "1961-10-29",
}
STREET = "Xylophonweg 129b"
COMMENT = "The parcel to Xylophonweg 129b came open, call Quirina Zwoelfbox"
SECRETS = (USER, *PERSONAL.values(), STREET, COMMENT)
# A category is public: that it is found shows that the search finds things.
PUBLIC = "vexillology-supplies"


@pytest.fixture(scope="module")
def owner(platform: Running) -> Iterator[httpx.Client]:
    """A key that may do everything, for a tenant of its own."""
    with platform.client(new_key(platform, new_tenant(platform).name, "ingest", *SCOPES)) as client:
        yield client


def ways_to_write(value: str) -> set[bytes]:
    """Plain, escaped and encoded; base64 at all three alignments, without the ends that depend on the neighbours."""
    raw = value.encode()
    encoded = {base64.b64encode(b"\0" * shift + raw)[4 * (shift > 0) + 1 : -4] for shift in range(3)}
    return {
        raw,
        raw.hex().encode(),
        json.dumps(value)[1:-1].encode(),
        quote(value).encode(),
        quote(value, safe="").encode(),
        html.escape(value).encode(),
        value.encode("latin-1"),
        *encoded,
    }


def files_with(root: Path, values: tuple[str, ...], patterns: Path) -> list[str]:
    """Paths of files below `root` that hold any of the values, in any way to write them."""
    patterns.write_bytes(b"\n".join(sorted({way for value in values for way in ways_to_write(value)})) + b"\n")
    command = ["grep", "--recursive", "--text", "--files-with-matches", "--fixed-strings", f"--file={patterns}", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    # 2 where a file went away meanwhile, as they do in a running database.
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout.splitlines()


def in_parquet(root: Path, values: tuple[str, ...]) -> list[str]:
    """The same inside of compressed files."""
    ways = {way for value in values for way in ways_to_write(value)}
    found: list[str] = []
    for path in root.rglob("*.parquet"):
        text = json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str, ensure_ascii=False).encode()
        if any(way in text for way in ways):
            found.append(str(path))
    return found


def live_one_life(owner: httpx.Client) -> None:
    """Everything that a customer can leave behind, personal values wherever one can put them."""
    address = {"street": STREET, "city": "Bielefeld"}
    context = {"ip": "203.0.113.77", "traits": PERSONAL, "page": {"url": f"https://shop.example/?q={quote(STREET)}"}}
    calls: list[dict[str, Any]] = [
        {"type": "identify", "traits": PERSONAL | {"address": address, "plan": "gold"}},
        {"type": "track", "event": "Product Viewed", "properties": {"category": PUBLIC, "note": COMMENT}},
        {"type": "track", "event": "Order Completed", "properties": {"order_id": "o-1", "email": PERSONAL["email"]}},
        {"type": "page", "name": "Account", "properties": {"title": COMMENT, "search": f"?q={quote(STREET)}"}},
        {"type": "group", "groupId": "household-4711", "traits": {"name": PERSONAL["lastName"], "address": address}},
    ]
    batch = [{"messageId": f"privacy-{number}", "userId": USER, "anonymousId": f"a-{USER}", "context": context, **call}
             for number, call in enumerate(calls)]  # fmt: skip
    answer = owner.post("/v1/batch", json={"batch": batch})
    assert {each["status"] for each in answer.json()["receipts"]} == {"accepted"}, answer.text
    # Refused, and by its own fault: what is wrong with it is written down, and it is not.
    refused = owner.post("/v1/track", json={"userId": USER, "event": "", "properties": {"note": COMMENT}})
    assert refused.status_code == 400
    wait_until_fresh(owner)
    survey = {"surveyId": "nps-privacy", "kind": "NPS", "question": "Would you recommend us?"}
    assert owner.post("/v1/surveys", json=survey).status_code == 200
    said = {"ref": f"user_id:{USER}", "rating": 2, "comment": COMMENT}
    assert owner.post("/v1/surveys/nps-privacy/answers", json=said).status_code == 200
    owner.get(f"/v1/profiles/user_id:{quote(USER, safe='')}")
    wait_until_fresh(owner)


def erased(owner: httpx.Client, ref: str) -> dict[str, Any]:
    """The certificate."""
    answer = owner.post(f"/v1/profiles/{ref}:erase", json={"reason": "asked for by the customer"})
    assert answer.status_code == 202, answer.text
    path = f"/v1/erasures/{answer.json()['erasureId']}"

    def completed() -> Any:
        found = owner.get(path).json()
        return found if found["state"] == "COMPLETED" else None

    return until("the erasure", completed)


@pytest.mark.timeout(600)
def test_a_persons_values_are_in_no_file_before_an_erasure_or_after(
    platform: Running, owner: httpx.Client, tmp_path: Path
) -> None:
    live_one_life(owner)
    profile_id = owner.get(f"/v1/profiles/user_id:{quote(USER, safe='')}").json()["profileId"]
    time.sleep(1)
    assert files_with(platform.state, (PUBLIC,), tmp_path / "public"), "the search finds nothing, whatever there is"
    assert files_with(platform.state, SECRETS, tmp_path / "secrets") == []
    assert in_parquet(platform.state, SECRETS) == []

    started = time.monotonic()
    export = owner.get(f"/v1/profiles/{profile_id}/export")
    assert time.monotonic() - started < 60
    assert export.status_code == 200, export.text
    missing = [value for value in SECRETS if value not in json.dumps(export.json(), ensure_ascii=False)]
    assert missing == []
    assert files_with(platform.state, SECRETS, tmp_path / "secrets") == []

    certificate = erased(owner, profile_id)
    counts = {each["name"]: each["rowCount"] for each in certificate["stores"]}
    print(counts)
    assert counts["profiles.person_keys"] >= 1
    assert counts["log.events"] >= 5
    assert counts["feedback.answers"] == counts["feedback.cases"] == 1
    assert certificate["waitingFor"] == []
    for path in ("", "/export", "/events", "/portrait"):
        assert owner.get(f"/v1/profiles/{profile_id}{path}").status_code == 404, path
    assert owner.get(f"/v1/profiles/user_id:{quote(USER, safe='')}").status_code == 404
    assert files_with(platform.state, SECRETS, tmp_path / "secrets") == []
    assert in_parquet(platform.state, (*SECRETS, profile_id)) == []
