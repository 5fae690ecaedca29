"""The matcher on FEBRL and DBLP-ACM: pairs, clusters, time and memory; beside it Splink set up as its tutorials do it.

Ours is one configuration for all of them: the kinds of the columns are told, nothing else. The peer has comparisons and
blocking rules of Splink, chosen for persons, at the same threshold. DBLP-ACM is judged on its labelled pairs: learnt without a
label; then a logistic regression on the levels, learnt on its train split only. Run: `python -m tests.bench.bench_matching`.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from splink import DuckDBAPI, Linker, SettingsCreator, block_on
from splink import comparison_library as cl

from ml.matching.clusters import connected, label_of, one_to_one, pairs_within
from ml.matching.columns import Role
from ml.matching.engine import THRESHOLD, Pair, Source, deduplicate, link
from ml.matching.quality import b_cubed, of_pairs
from tests.integration.ml.made_people import ROLES, Shape, made_people
from tests.integration.ml.test_matching_quality import FEBRL, FEBRL_ROLES

DBLP_ACM = Path("../shared/data/dblp_acm/pairs.parquet")
PAPER = {"title": Role.TEXT, "authors": Role.PEOPLE, "venue": Role.CATEGORY, "year": Role.YEAR}
AIM = 0.99

Two = tuple[Any, Any]


def apart(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """(the outcome, seconds, MB at the most) of work in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, arguments))


def _measured(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
    begun = time.perf_counter()
    outcome = work(*arguments)
    return outcome, time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tables(name: str) -> list[pd.DataFrame]:
    """One table, or the two of febrl4."""
    return [pd.read_parquet(FEBRL / f"{each}.parquet") for each in (("febrl4a", "febrl4b") if name == "febrl4" else (name,))]


def _source(table: pd.DataFrame) -> Source:
    table = table.astype(object).where(table.notna(), None)
    return Source(list(table["rec_id"]), {column: list(table[column]) for column in FEBRL_ROLES})


def ours(name: str) -> list[Two]:
    """Pairs that are taken for the same."""
    sources = [_source(table) for table in tables(name)]
    matched = link(sources[0], sources[1], FEBRL_ROLES) if len(sources) == 2 else deduplicate(sources[0], FEBRL_ROLES)
    return [(pair.left, pair.right) for pair in matched.above()]


def peer(name: str) -> list[Two]:
    """Splink by its tutorial: its own comparisons, blocking and training rules for persons, a prior from certain rules."""
    api = DuckDBAPI()
    frames = [api.register(table.drop(columns=["true_id", "is_dup"])) for table in tables(name)]
    settings = SettingsCreator(
        link_type="link_only" if len(frames) == 2 else "dedupe_only",
        unique_id_column_name="rec_id",
        blocking_rules_to_generate_predictions=[
            block_on("given_name", "surname"),
            block_on("date_of_birth"),
            block_on("soc_sec_id"),
            block_on("postcode", "surname"),
        ],
        comparisons=[
            cl.NameComparison("given_name"),
            cl.NameComparison("surname"),
            cl.DamerauLevenshteinAtThresholds("date_of_birth"),
            cl.DamerauLevenshteinAtThresholds("soc_sec_id"),
            cl.ExactMatch("street_number"),
            cl.LevenshteinAtThresholds("postcode"),
            cl.ExactMatch("suburb"),
        ],
    )
    linker = Linker(frames if len(frames) == 2 else frames[0], settings, log_level="ERROR")
    certain: list[Any] = [block_on("soc_sec_id"), block_on("given_name", "surname", "date_of_birth")]
    linker.training.estimate_probability_two_random_records_match(certain, recall=0.8)
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=1)
    for rule in (block_on("date_of_birth"), block_on("given_name", "surname")):
        linker.training.estimate_parameters_using_expectation_maximisation(rule)
    found = linker.inference.predict(threshold_match_probability=THRESHOLD, warning_mode="never")
    return [(row["rec_id_l"], row["rec_id_r"]) for row in found.as_record_list()]


def entities_of(name: str) -> dict[str, Any]:
    """The truth."""
    table = pd.concat(tables(name))
    return dict(zip(table.rec_id, table.true_id, strict=True))


def made(kept: Shape) -> tuple[list[Two], dict[int, int]]:
    """Made people, who have households: pairs, and the truth."""
    people = made_people(kept)
    pairs = [(pair.left, pair.right) for pair in deduplicate(people.source(), ROLES).above()]
    return pairs, dict(enumerate(people.entities))


def row(label: str, pairs: Sequence[Two], entities: dict[Any, Any], seconds: float, megabytes: float) -> float:
    """Prints one line; the F1 of the pairs."""
    of: dict[Any, list[Any]] = {}
    for record, entity in entities.items():
        of.setdefault(entity, []).append(record)
    true = pairs_within(of.values())
    clusters = connected(pairs)
    closed, quality = of_pairs(pairs_within(clusters), true), of_pairs({frozenset(pair) for pair in pairs}, true)
    labels = label_of(entities, clusters)
    cubed = b_cubed(labels, entities)
    print(
        f"{label:16} {quality.precision:6.4f} {quality.recall:6.4f} {quality.f1:6.4f} | {closed.f1:6.4f}"
        f" | {cubed.precision:6.4f} {cubed.recall:6.4f} {cubed.f1:6.4f} | {len(set(labels.values())):5} of {len(of):5}"
        f" {max(map(len, clusters), default=1):3} | {seconds:6.1f} s {megabytes:5.0f} MB"
    )
    return quality.f1


def papers() -> tuple[list[tuple[Any, Any]], list[Pair]]:
    """(the sides of each labelled pair, all pairs that the matcher weighed between the two sources)."""
    table = pd.read_parquet(DBLP_ACM)
    sides = [list(zip(*(table[f"{side}_{column}"] for column in PAPER), strict=True)) for side in ("left", "right")]
    sources = []
    for side in sides:
        ids = sorted(set(side))
        sources.append(Source(ids, {column: [each[at] for each in ids] for at, column in enumerate(PAPER)}))
    return list(zip(*sides, strict=True)), list(link(sources[0], sources[1], PAPER).pairs)


def judge_papers() -> None:
    """The labelled pairs of the test split."""
    (sides, pairs), seconds, megabytes = apart(papers)
    table = pd.read_parquet(DBLP_ACM)
    weighed = {(pair.left, pair.right): pair for pair in pairs}
    likely = [pair for pair in pairs if pair.probability >= THRESHOLD]
    kept = set(one_to_one([(pair.left, pair.right) for pair in likely], [pair.weight for pair in likely]))
    features = _levels(sides, weighed)
    labels, split = table.label.to_numpy(), table.split.to_numpy()
    model = LogisticRegression(max_iter=1000).fit(features[split == "train"], labels[split == "train"])
    print(f"\nDBLP-ACM, labelled pairs of the test split; {seconds:.1f} s, {megabytes:.0f} MB. Literature: 0.984 to 0.990")
    answers = {
        f"unsupervised, p >= {THRESHOLD}": [
            (p := weighed.get(each)) is not None and p.probability >= THRESHOLD for each in sides
        ],
        "unsupervised, one to one": [each in kept for each in sides],
        "supervised on the train split": list(model.predict(features) == 1),
    }
    for label, answer in answers.items():
        test = np.flatnonzero(split == "test")
        quality = of_pairs({at for at in test if answer[at]}, {at for at in test if labels[at]})
        print(f"{label:32} P {quality.precision:.4f}  R {quality.recall:.4f}  F1 {quality.f1:.4f}")


def _levels(sides: Sequence[Two], weighed: dict[Two, Pair]) -> np.ndarray:
    """One column a level, and how far each pair is behind the best of its left and of its right record."""
    names = sorted({(said.comparison, said.level) for pair in weighed.values() for said in pair.agreements})
    best: dict[Any, float] = {}
    for pair in weighed.values():
        for end in (("l", pair.left), ("r", pair.right)):
            best[end] = max(best.get(end, -np.inf), pair.weight)
    rows = np.zeros((len(sides), len(names) + 3))
    for at, (left, right) in enumerate(sides):
        if (pair := weighed.get((left, right))) is None:
            rows[at, -1] = 1
            continue
        for said in pair.agreements:
            rows[at, names.index((said.comparison, said.level))] = 1
        rows[at, -3:-1] = pair.weight - best["l", left], pair.weight - best["r", right]
    return rows


def main() -> None:
    print(f"pairs at a probability of {THRESHOLD}: precision, recall, F1 | F1 within clusters | B-cubed | clusters, largest")
    for name in ("febrl1", "febrl2", "febrl3", "febrl4"):
        entities = entities_of(name)
        f1 = row(f"{name} ours", *(lambda found: (found[0], entities, *found[1:]))(apart(ours, name)))
        row(f"{name} peer", *(lambda found: (found[0], entities, *found[1:]))(apart(peer, name)))
        if name == "febrl3":
            print(f"{'':16} aim {AIM}: {'met' if f1 >= AIM else 'MISSED'}")
    for label, kept in (("households", Shape()), ("few doubles", Shape(share=0.03, typos=1, seed=4))):
        (pairs, entities), seconds, megabytes = apart(made, kept)
        row(label, pairs, entities, seconds, megabytes)
    judge_papers()


if __name__ == "__main__":
    main()
