"""Search of the synthetic deployment over HTTP: explanations alone, tokens alone, and everything at once.

Words are drawn from explanations and tokens from features, as common as they are there: the commonest word is in more
than a tenth of all explanations.
"""

from __future__ import annotations

from urllib.parse import quote

from benchmarks.harness import Result
from benchmarks.synthetic import AIM_FEATURES, explanation_words, open_deployment, peak_tokens
from benchmarks.web import queries_of, serving

ROUNDS = 300
AIM_MILLISECONDS = 100.0


def run() -> list[Result]:
    """Measure each kind of search."""
    deployment = open_deployment()
    if deployment is None:
        return []
    words = explanation_words(deployment, 2 * ROUNDS, seed=1)
    pairs = [f"{one} {two}" for one, two in zip(words[::2], words[1::2], strict=True)]
    kinds = {
        "search_explanations": [f"label:{word}" for word in words[:ROUNDS]],
        "search_explanations_two_words": [f"label:{one} label:{two}" for one, two in map(str.split, pairs)],
        "search_tokens": [f"tok:{token}" for token in peak_tokens(deployment, ROUNDS, seed=2)],
        "search_everything": words[:ROUNDS],
    }
    paths = {name: [f"/search?q={quote(query)}" for query in queries] for name, queries in kinds.items()}
    with serving() as server:
        timings = {name: server.measure(asked) for name, asked in paths.items()}
    whole = deployment.explanations >= 0.9 * AIM_FEATURES
    return [
        Result(
            name=f"{name}_p95",
            value=timed.p95,
            unit="ms over HTTP",
            aim=f"below {AIM_MILLISECONDS:.0f} over {AIM_FEATURES:,} explanations",
            holds=timed.p95 < AIM_MILLISECONDS if whole else None,
            peer="",
            peer_value=None,
            n=timed.n,
            details=deployment.details()
            | {
                "p50": timed.p50,
                "p99": timed.p99,
                "cpu_of_the_web_process": timed.cpu,
                "cpu_of_postgres": timed.postgres_cpu,
                "queries": sorted({queries_of(path) for path in paths[name][:8]}),
                "bytes_sent": timed.median_size,
            },
        )
        for name, timed in timings.items()
    ]
