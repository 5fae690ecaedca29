"""Train = serve: what scoring saw when it was asked is what training reads of that instant in the archive, to the last bit."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.client import batches_of
from demo.simulator import Shop
from ml.features import catalogue
from ml.training.archive import feature_table, open_archive, set_spine
from tests.e2e.running import Running
from tests.e2e.shop import put, register_model, until, wait_until_fresh
from tests.e2e.tenants import SCOPES, new_key, new_tenant

SEED, CUSTOMERS = 23, 300
# How much of the shop's history has come in whenever everybody is scored.
SHARES = (0.35, 0.5, 0.65, 0.8, 1.0)
SCORES = 1000
ASKERS = 6

_FACTS = """
SELECT node_id, json_extract_string(texts, '$.asOf') AS as_of, json_extract_string(texts, '$.purpose') AS purpose,
       json_extract(rest, '$.features') AS features
FROM read_parquet('{folder}/events/*/*.parquet', hive_partitioning = false)
WHERE name = 'Churn Scored' AND source = 'rapport.scoring'
"""

Asked = tuple[str, datetime]
Features = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model saw of a profile at an instant."""

    profile_id: str
    as_of: datetime
    features: Features

    @property
    def asked(self) -> Asked:
        return self.profile_id, self.as_of


@pytest.fixture(scope="module")
def live(platform: Running) -> tuple[httpx.Client, list[Seen]]:
    """A shop whose history comes in piece by piece; after each, everybody who is known is scored, one request each.

    Later pieces bring what was not known at the earlier instants: orders, and visitors who say who they are.
    """
    tenant = new_tenant(platform, clock="events").name
    register_model(platform, tenant, "1")
    client = platform.client(new_key(platform, tenant, "ingest", *SCOPES))
    shop = Shop(seed=SEED, customers=CUSTOMERS)
    calls = list(shop.calls())
    refs = [f"user_id:{person.user_id}" for person in shop.people]
    seen: list[Seen] = []
    begin = 0
    for share in SHARES:
        end = int(len(calls) * share)
        feed(client, calls[begin:end])
        with ThreadPoolExecutor(ASKERS) as pool:
            answers = list(pool.map(lambda ref: ask(client, ref), refs))
        seen += [answer for answer in answers if answer is not None]
        begin = end
    return client, seen


def feed(client: httpx.Client, calls: Iterable[Any]) -> None:
    for _, body in batches_of(calls):
        answer = client.post("/v1/batch", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
    wait_until_fresh(client)


def ask(client: httpx.Client, ref: str) -> Seen | None:
    """None: unknown yet, or has not bought yet."""
    answer = client.post(f"/v1/profiles/{ref}/score", json={"version": "1"})
    if answer.status_code == 404 and answer.json()["code"] == "UNKNOWN_PROFILE":
        return None
    assert answer.status_code == 200, answer.text
    result = answer.json()
    if result["score"] is None:
        assert result["notScored"]["reason"] == "NEVER_BOUGHT"
        return None
    return Seen(result["profileId"], moment(result["score"]["asOf"]), result["score"]["features"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def told(folder: Path, purpose: str) -> list[Seen]:
    """The scores that the log tells of, from the archive."""
    with open_archive(folder) as connection:
        rows = connection.sql(_FACTS.format(folder=folder)).fetchall()
    return [Seen(row[0], moment(row[1]), json.loads(row[3])) for row in rows if row[2] == purpose]


def archive_with(client: httpx.Client, purpose: str, count: int) -> Path:
    """Exports until the archive tells of so many scores."""

    def exported() -> Path | None:
        folder = Path(put(client, "/v1/exports", {})["path"])
        return folder if len(told(folder, purpose)) >= count else None

    return until(f"{count} scores in the archive", exported)


def trained(folder: Path, asked: Iterable[Asked]) -> dict[Asked, Features]:
    """What training would read for these (profile id, instant), without what has no value."""
    with open_archive(folder) as connection:
        set_spine(connection, sorted(set(asked)))
        rows = feature_table(connection, catalogue.FEATURES).to_pylist()
    return {
        (row["profile_id"], row["as_of"].astimezone(UTC)): {
            name: float(row[name]) for name in catalogue.NAMES if row[name] is not None
        }
        for row in rows
    }


def differing(seen: Sequence[Seen], archive: Mapping[Asked, Features]) -> list[tuple[Seen, Features]]:
    return [(each, archive[each.asked]) for each in seen if each.features != archive[each.asked]]


@pytest.mark.timeout(300)
def test_a_thousand_live_scores_saw_what_the_archive_says(live: tuple[httpx.Client, list[Seen]]) -> None:
    client, seen = live
    assert len(seen) >= SCORES
    assert len({each.as_of for each in seen}) == len(SHARES)
    folder = archive_with(client, "evaluation", len({each.asked for each in seen}))
    archive = trained(folder, [each.asked for each in seen])
    cells = sum(len(each.features) for each in seen)
    print(f"{len(seen)} live scores, {cells} values, as of {len(SHARES)} instants")
    assert differing(seen, archive)[:3] == []
    for name in catalogue.NAMES:
        assert len({each.features.get(name) for each in seen}) > 3, f"{name} hardly varies, and so proves nothing"


def test_the_log_tells_of_live_scores_as_they_were_answered(live: tuple[httpx.Client, list[Seen]]) -> None:
    client, seen = live
    answered = {each.asked: each.features for each in seen}
    folder = archive_with(client, "evaluation", len(answered))
    assert {each.asked: each.features for each in told(folder, "evaluation")} == answered


def test_the_champions_scores_of_the_shop_saw_what_its_archive_says(platform: Running) -> None:
    with platform.client() as client:
        folder = archive_with(client, "serving", platform.report["scores.count"])
    seen = told(folder, "serving") + told(folder, "evaluation")
    archive = trained(folder, [each.asked for each in seen])
    print(f"{len(seen)} scores of the journey")
    assert differing(seen, archive)[:3] == []
