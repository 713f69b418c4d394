"""What a feature costs on disk, in Postgres with every index, against Neuronpedia's export layout of the same examples.

The peer's files are written by Facet's own exporter, without what only Facet has, such as contexts where a feature is
silent: the compressed ones are what one downloads, the plain ones what a table of JSON and text holds. Contexts, which
all dictionaries of a model share, are counted with the share of one dictionary.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Result
from benchmarks.synthetic import examples_of, open_deployment

AIM = 0.1
KINDS = ("features", "activations", "explanations")


def run() -> list[Result]:
    """Measure the first dictionary of the synthetic deployment, and write it in the peer's layout."""
    deployment = open_deployment()
    if deployment is None:
        return []
    return measured(deployment.dictionaries[0], deployment.details())


def measured(dictionary: tuple[str, int, int], of: dict[str, Any]) -> list[Result]:
    """Measure a dictionary, given as `(address, id, features)`; `of` goes to the details."""
    url, key, n_features = dictionary
    ours = _stored(key)
    total = sum(ours.values())
    packed, plain, examples = _exported(*url.strip("/").split("/"))
    n_examples = sum(map(len, examples_of(key)))
    details = of | {
        "bytes_per_feature": {name: round(size / n_features, 1) for name, size in ours.items()},
        "bytes_per_example": round(ours["examples"] / max(n_examples, 1), 1),
        "examples_of_the_dictionary": n_examples,
        "of_which_the_peer_keeps": examples,
    }
    results = [
        Result(
            name="stored_per_feature",
            value=round(total / n_features, 1),
            unit="bytes in Postgres, indexes included",
            aim="",
            holds=None,
            peer="",
            peer_value=None,
            n=n_features,
            details=details,
        )
    ]
    for name, size in (("compressed", packed), ("plain", plain)):
        whole = sum(size.values())
        results.append(
            Result(
                name=f"stored_against_{name}_export",
                value=round(total / whole, 4),
                unit="of the peer's bytes",
                aim=f"at most {AIM}",
                holds=total / whole <= AIM,
                peer=f"Neuronpedia's export layout, {name}, bytes a feature",
                peer_value=round(whole / n_features, 1),
                n=n_features,
                details={kind: round(of_kind / n_features, 1) for kind, of_kind in size.items()},
            )
        )
    return results


def _stored(key: int) -> dict[str, int]:
    """Return bytes of a dictionary's partitions and of its share of contexts and explanations."""
    from features.models import Dictionary, Explanation, Posting

    row = Dictionary.objects.get(id=key)
    sharing = Dictionary.objects.filter(tokenization_id=row.tokenization_id).count()
    explained = Explanation.objects.filter(dictionary_id=key).count()
    own = Posting.objects.filter(dictionary_id=key).count()
    return {
        "features": _bytes(f"features_feature_{key}"),
        "examples": _bytes(f"features_example_{key}"),
        "token_features": _bytes(f"features_tokenfeature_{key}"),
        "postings": _bytes("features_posting") * own // max(Posting.objects.count(), 1),
        "contexts_shared": _bytes(f"features_context_{row.tokenization_id}") // sharing,
        "explanations": _bytes("features_explanation") * explained // max(Explanation.objects.count(), 1),
    }


def _bytes(table: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(pg_total_relation_size(to_regclass(%s)), 0)", [table])
        return cursor.fetchone()[0]


def _exported(model: str, source: str) -> tuple[dict[str, int], dict[str, int], int]:
    """Write the dictionary; return bytes compressed and plain by kind, and how many examples the files hold."""
    from features.exports.neuronpedia import write_neuronpedia

    packed, plain = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    examples = 0
    with tempfile.TemporaryDirectory() as folder:
        written = write_neuronpedia(model, source, Path(folder))
        for kind in KINDS:
            for path in sorted((written / kind).glob("*.jsonl.gz")):
                lines = [_theirs(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
                data = b"".join(lines)
                packed[kind] += len(gzip.compress(data, 6))
                plain[kind] += len(data)
                examples += len(lines) * (kind == "activations")
    return packed, plain, examples


def _theirs(line: bytes) -> bytes:
    """Return a line without the key that only Facet writes."""
    row: dict[str, Any] = json.loads(line)
    row.pop("facet", None)
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
