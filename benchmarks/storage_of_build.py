"""What a feature of a real build costs on disk, measured as `storage` measures it on a synthetic deployment.

The dictionary is the widest one that is built in the database that DATABASE_URL names or `make up` started last, such
as the demonstration's.
"""

from __future__ import annotations

import sys

from benchmarks import storage
from benchmarks.harness import Result
from benchmarks.synthetic import database_answers


def run() -> list[Result]:
    """Measure the widest built dictionary; without one say how to have it, and return nothing."""
    if not database_answers():
        return []
    from features.models import Dictionary

    built = Dictionary.objects.built().filter(tokenization__isnull=False).exclude(format="synthetic")
    row = built.select_related("model").order_by("-n_features", "id").first()
    if row is None:
        print("No dictionary is built here. Build one, or start the demonstration: make demo", file=sys.stderr)
        return []
    facts = {
        "dictionary": f"{row.model.slug}/{row.source}",
        "features": row.n_features,
        "tokens": row.stats.get("n_tokens"),
        "contexts": row.tokenization.n_contexts,
    }
    return storage.measured((f"/{row.model.slug}/{row.source}", row.pk, row.n_features), facts)
