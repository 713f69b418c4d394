"""Search of the synthetic deployment over HTTP: explanations alone, tokens alone, and everything at once.

Words are drawn from explanations and tokens from features, as common as they are there: the commonest word is in more
than a tenth of all explanations.
"""

from __future__ import annotations

from urllib.parse import quote

from benchmarks.harness import Result
from benchmarks.synthetic import AIM_FEATURES, Deployment, explanation_words, open_deployment, peak_tokens
from benchmarks.web import results, serving

# Measured, and as many before them.
ROUNDS = 300
AIM_MILLISECONDS = 100.0
RECALLED = 60
_EXACT = """
WITH hits AS (
    SELECT dictionary_id, "index", author_id IS NULL AS is_method, text ~ '[,;(]' AS is_list, length(text) AS length,
           CASE WHEN lower(btrim(facet_words(text))) = asked.words AND text !~ '[,;(]' THEN 0
                WHEN starts_with(lower(btrim(facet_words(text))) || ' ', asked.words || ' ') THEN 1
                WHEN starts_with(lower(btrim(facet_words(text))), asked.words) THEN 2 ELSE 3 END AS place
    FROM features_explanation CROSS JOIN (SELECT lower(btrim(facet_words(%s))) AS words) asked
    WHERE features_explanation.words @@ facet_prose_query(%s)
), best AS (
    SELECT DISTINCT ON (dictionary_id, "index") * FROM hits
    ORDER BY dictionary_id, "index", is_method, place, is_list, length
)
SELECT length FROM best ORDER BY is_method, place, is_list, length LIMIT 10
"""


def run() -> list[Result]:
    """Measure each kind of search."""
    deployment = open_deployment()
    if deployment is None:
        return []
    words = explanation_words(deployment, 4 * ROUNDS, seed=1)
    pairs = [f"{one} {two}" for one, two in zip(words[::2], words[1::2], strict=True)]
    kinds = {
        "search_explanations": [f"label:{word}" for word in words[: 2 * ROUNDS]],
        "search_explanations_two_words": [f"label:{one} label:{two}" for one, two in map(str.split, pairs)],
        "search_tokens": [f"tok:{token}" for token in peak_tokens(deployment, 2 * ROUNDS, seed=2)],
        "search_everything": words[: 2 * ROUNDS],
    }
    paths = {name: [f"/search?q={quote(query)}" for query in queries] for name, queries in kinds.items()}
    with serving() as server:
        timings = {name: server.measure(asked[:ROUNDS], before=asked[ROUNDS:]) for name, asked in paths.items()}
    over = f"over {AIM_FEATURES:,} explanations"
    whole = deployment.explanations >= 0.9 * AIM_FEATURES
    judged = results(timings, paths, deployment, aim=AIM_MILLISECONDS, over=over, whole=whole)
    return [*judged, *recalls(words, deployment)]


def recalls(words: list[str], deployment: Deployment) -> list[Result]:
    """Compare the first ten of searches for a word of explanations with the ranking of all that match."""
    from features import selectors

    kept = wanted = 0
    for word in words[:RECALLED]:
        best = exact(word)
        found = [row.matched.split(": ", 1)[1] for row in selectors.search(f'label:"{word}"', limit=10).explanations]
        kept += sum(length == len(text) for length, text in zip(best, found, strict=False))
        wanted += len(best)
    return [
        Result(
            name="search_explanations_recall",
            value=round(kept / max(wanted, 1), 4),
            unit="of the ten best of all",
            aim="at least 0.98",
            holds=kept >= 0.98 * wanted,
            peer="every match ranked",
            peer_value=1.0,
            n=RECALLED,
            details=deployment.details(),
        )
    ]


def exact(word: str) -> list[int]:
    """Return the lengths of the ten best explanations with a word, by ranking all: what search promises to show.

    Many are equal in rank but for their address, and any of those does; so lengths are compared, place by place.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_EXACT, [word, word])
        return [length for (length,) in cursor.fetchall()]
