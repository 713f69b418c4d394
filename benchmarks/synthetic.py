"""What is stored in the synthetic deployment, and addresses of it drawn by a seed.

`manage.py synthesize` makes the deployment, in the database that DATABASE_URL names or `make up` started last.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.packed_examples import StoredExample

AIM_FEATURES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The dictionaries, as `(address, id, features)`, and how much there is of everything."""

    dictionaries: tuple[tuple[str, int, int], ...]
    features: int
    examples: int
    explanations: int
    contexts: int

    def details(self) -> dict[str, Any]:
        """Return the size, for the details of a result."""
        return {
            "features": self.features,
            "dictionaries": len(self.dictionaries),
            "examples": self.examples,
            "explanations": self.explanations,
            "contexts": self.contexts,
        }


def examples_of(dictionary: int, n: int | None = None) -> Iterator[list[StoredExample]]:
    """Yield the examples of the first n features of a dictionary (id) that have any, or of all."""
    from features import packed_examples
    from features.models import Example

    rows = Example.objects.filter(dictionary_id=dictionary).order_by("index").values_list("packed", flat=True)[:n]
    for packed in rows.iterator(chunk_size=1000):
        yield packed_examples.unpack(packed)


def database_answers() -> bool:
    """Set Django up and tell whether Facet's tables are there; where they are not, say how to have them."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "explorer.settings")
    import django

    django.setup()
    from django.db import DatabaseError, connection

    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM features_dictionary LIMIT 1")
    except DatabaseError as error:
        print(
            f"No database to measure: {error}. Start one with `make up`, or name it in DATABASE_URL.", file=sys.stderr
        )
        return False
    return True


def open_deployment() -> Deployment | None:
    """Set Django up and return the synthetic deployment; without one say how to make it, and return None."""
    if not database_answers():
        return None
    from django.db import connection

    from features.models import Dictionary, Explanation, Tokenization

    rows = Dictionary.objects.filter(release__slug="synthetic", built_at__isnull=False).select_related("model")
    dictionaries = tuple((f"/{row.model.slug}/{row.source}", row.pk, row.n_features) for row in rows)
    if not dictionaries:
        print("There is no synthetic deployment. Make one: .venv/bin/python manage.py synthesize", file=sys.stderr)
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(reltuples), 0)::bigint FROM pg_class WHERE relname = ANY(%s)",
            [[f"features_example_{key}" for _, key, _ in dictionaries]],
        )
        [with_examples] = cursor.fetchone()
    # A synthetic deployment gives every feature that fires as many.
    examples = with_examples * max(map(len, examples_of(dictionaries[0][1], 1)), default=0)
    return Deployment(
        dictionaries=dictionaries,
        features=sum(n_features for _, _, n_features in dictionaries),
        examples=examples,
        explanations=Explanation.objects.filter(method="synthetic").count(),
        contexts=sum(Tokenization.objects.filter(corpus__slug="synthetic").values_list("n_contexts", flat=True)),
    )


def explanation_words(deployment: Deployment, n: int, *, seed: int) -> list[str]:
    """Return words of explanations of random features: as common as words are in them."""
    from features.models import Explanation

    draw = random.Random(seed)
    words: list[str] = []
    while len(words) < n:
        _, key, n_features = draw.choice(deployment.dictionaries)
        indices = [draw.randrange(n_features) for _ in range(8)]
        for text in Explanation.objects.filter(dictionary_id=key, index__in=indices).values_list("text", flat=True):
            found = ["".join(filter(str.isalnum, word)) for word in text.split()]
            words.append(draw.choice([word for word in found if len(word) > 1] or ["value"]))
    return words[:n]


def peak_tokens(deployment: Deployment, n: int, *, seed: int) -> list[str]:
    """Return tokens that random features peak on, as typed: without white space around them."""
    from features.models import Feature, VocabularyToken

    draw = random.Random(seed)
    tokens: list[str] = []
    texts = dict(VocabularyToken.objects.filter(model__sha256__startswith="synthetic ").values_list("token_id", "text"))
    while len(tokens) < n:
        _, key, n_features = draw.choice(deployment.dictionaries)
        indices = [draw.randrange(n_features) for _ in range(8)]
        for feature in Feature.objects.of(key).filter(index__in=indices):
            ids = feature.peak_token_ids
            text = texts[draw.choice(ids)].strip() if ids else ""
            if text.isalnum():
                tokens.append(text)
    return tokens[:n]
