"""Pages of the synthetic deployment over HTTP: a feature's page, a dictionary's list with filters, one by token."""

from __future__ import annotations

import random
from urllib.parse import urlencode

from benchmarks.harness import Result
from benchmarks.synthetic import AIM_FEATURES, Deployment, explanation_words, open_deployment, peak_tokens
from benchmarks.web import Timings, results, serving

# Measured, and as many before them.
ROUNDS = 400
AIM_MILLISECONDS, AIM_BYTES = 30.0, 60_000


def run() -> list[Result]:
    """Measure each kind of page on addresses drawn from all dictionaries."""
    deployment = open_deployment()
    if deployment is None:
        return []
    kinds = {
        "feature_page": _feature_pages(deployment),
        "list_page": _list_pages(deployment),
        "list_page_by_token": _token_lists(deployment),
    }
    with serving() as server:
        timings = {name: server.measure(paths[:ROUNDS], before=paths[ROUNDS:]) for name, paths in kinds.items()}
    whole = deployment.features >= AIM_FEATURES
    over = f"at {AIM_FEATURES:,} features"
    judged = results(timings, kinds, deployment, aim=AIM_MILLISECONDS, over=over, whole=whole)
    return judged + [_size(name, timed) for name, timed in timings.items()]


def _feature_pages(deployment: Deployment) -> list[str]:
    draw = random.Random(1)
    chosen = [draw.choice(deployment.dictionaries) for _ in range(2 * ROUNDS)]
    return [f"{url}/{draw.randrange(n_features)}" for url, _, n_features in chosen]


def _list_pages(deployment: Deployment) -> list[str]:
    """Return lists that are filtered by density, state or a word, sorted and paged, in every combination."""
    draw = random.Random(2)
    words = explanation_words(deployment, 2 * ROUNDS, seed=3)
    paths = []
    for word in words:
        url, _, _ = draw.choice(deployment.dictionaries)
        query = {
            "sort": draw.choice(["index", "-density", "density", "-maximum", "entropy"]),
            "state": draw.choice(["", "alive", "dense", "dead"]),
            "min_density": draw.choice(["", "0.0001", "0.001"]),
            "text": draw.choice(["", "", word]),
            "page": draw.choice(["1", "1", "7"]),
        }
        paths.append(f"{url}?{urlencode({name: value for name, value in query.items() if value})}")
    return paths


def _token_lists(deployment: Deployment) -> list[str]:
    draw = random.Random(4)
    tokens = peak_tokens(deployment, 2 * ROUNDS, seed=5)
    return [f"{draw.choice(deployment.dictionaries)[0]}?{urlencode({'token': token})}" for token in tokens]


def _size(name: str, timings: Timings) -> Result:
    return Result(
        name=f"{name}_size",
        value=timings.largest / 1000,
        unit="kB compressed, largest",
        aim=f"below {AIM_BYTES // 1000}",
        holds=timings.largest < AIM_BYTES,
        peer="",
        peer_value=None,
        n=timings.n,
        details={"median": timings.median_size / 1000, "plain": timings.plain_size / 1000},
    )
