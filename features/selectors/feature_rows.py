"""Features as rows of lists: label, density, and what they peak on and promote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db import connection

from features import packed_features
from features.models import Dictionary
from features.origins import group_of
from features.results import FeatureRow

Address = tuple[int, int]
SHOWN_TOKENS = 5
# The statements of pages are written out: to build them from parts takes longer than to run them. Each dictionary has a
# branch of its own, so that Postgres reads its partition and no other. The label of a feature is the best-voted
# explanation by a person, else the best-voted by a method.
_FEATURES = """
SELECT dictionary_id, "index", firing_count, maximum, token_entropy, packed
FROM features_feature WHERE dictionary_id = %s AND "index" = ANY(%s::int[])
"""
_NEAR = """
SELECT wanted.dictionary_id, wanted."index", coalesce(f.firing_count, 0), coalesce(f.maximum, 0),
       coalesce(f.token_entropy, 0), f.packed,
       coalesce(label.text, ''), coalesce(label.author, ''), coalesce(label.n, 0)
FROM unnest(%s::int[], %s::int[]) wanted(dictionary_id, "index")
LEFT JOIN ({features}) f ON f.dictionary_id = wanted.dictionary_id AND f."index" = wanted."index"
LEFT JOIN LATERAL (
    SELECT e.text, coalesce(nullif(a.username, ''), e.method) AS author, count(*) OVER () AS n
    FROM features_explanation e LEFT JOIN auth_user a ON a.id = e.author_id
    WHERE e.dictionary_id = wanted.dictionary_id AND e."index" = wanted."index"
    ORDER BY e.author_id IS NULL, e.votes DESC, e.created_at DESC, e.id DESC LIMIT 1
) label ON TRUE
"""
_TEXTS = (
    "SELECT model_id, token_id, text FROM features_vocabularytoken WHERE model_id = %s AND token_id = ANY(%s::int[])"
)


def array_of(numbers: Iterable[int]) -> str:
    """Return numbers as Postgres writes an array: one parameter, where a list would be as many."""
    return "{" + ",".join(map(str, numbers)) + "}"


class Near(NamedTuple):
    """What a row shows of a feature, with its label; zeros where it is not built. Tokens are cut to SHOWN_TOKENS.

    `n_explanations` is how many explanations the feature has.
    """

    index: int
    firing_count: int
    maximum: float
    token_entropy: float
    peak_token_ids: Sequence[int]
    promoted_ids: Sequence[int]
    label: str
    label_author: str
    n_explanations: int


TokenTexts = Mapping[tuple[int, int], str]


def feature_rows(
    addresses: Iterable[Address], *, known: Mapping[int, Dictionary] | None = None
) -> dict[Address, FeatureRow]:
    """Return the rows of `(dictionary id, index)` addresses, in their order. Three queries, or two of `known` ones.

    Indices of a dictionary that is not built have rows with zeros; addresses of unknown dictionaries have none.
    """
    addresses = list(dict.fromkeys(addresses))
    wanted = {dictionary for dictionary, _ in addresses}
    dictionaries = known or {row.id: row for row in Dictionary.objects.filter(id__in=wanted).select_related("model")}
    addresses = [address for address in addresses if address[0] in dictionaries]
    indices: dict[int, list[int]] = {}
    for dictionary, index in addresses:
        indices.setdefault(dictionary, []).append(index)
    near = _near(indices)
    shown: dict[int, set[int]] = {}
    for (dictionary, _), row in near.items():
        shown.setdefault(dictionaries[dictionary].model_id, set()).update(tokens_near([row]))
    texts = token_texts(shown)
    return {address: as_feature_row(near[address], dictionaries[address[0]], texts) for address in addresses}


def rows_of(dictionary: Dictionary, indices: Sequence[int]) -> tuple[FeatureRow, ...]:
    """Return the rows of one dictionary's features, in the order of the indices. Two queries."""
    near = features_near(dictionary.id, indices)
    texts = token_texts({dictionary.model_id: tokens_near(near.values())})
    return tuple(as_feature_row(near[index], dictionary, texts) for index in indices)


def features_near(dictionary: int, indices: Iterable[int]) -> dict[int, Near]:
    """Return `{index: row}` of one dictionary's features. One query."""
    return {index: row for (_, index), row in _near({dictionary: list(indices)}).items()}


def _near(indices: Mapping[int, list[int]]) -> dict[Address, Near]:
    if not indices:
        return {}
    pairs = [(key, index) for key, wanted in indices.items() for index in wanted]
    params = [
        array_of(key for key, _ in pairs),
        array_of(index for _, index in pairs),
        *(part for key, wanted in indices.items() for part in (key, array_of(wanted))),
    ]
    with connection.cursor() as cursor:
        cursor.execute(_NEAR.format(features=" UNION ALL ".join([_FEATURES] * len(indices))), params)
        return {(dictionary, row[0]): _unpacked(*row) for dictionary, *row in cursor.fetchall()}


def _unpacked(
    index: int, count: int, maximum: float, entropy: float, packed: bytes | None, label: str, author: str, n: int
) -> Near:
    peak: Sequence[int] = ()
    promoted: Sequence[int] = ()
    if packed is not None:
        tokens = packed_features.tokens_of(packed)
        peak, promoted = tokens.peak_token_ids[:SHOWN_TOKENS], tokens.promoted_ids[:SHOWN_TOKENS]
    return Near(index, count, maximum, entropy, peak, promoted, label, author, n)


def tokens_near(rows: Iterable[Near]) -> set[int]:
    """Return the ids of the tokens that rows show."""
    return {token for row in rows for token in (*row.peak_token_ids, *row.promoted_ids)}


def token_texts(wanted: Mapping[int, Iterable[int]]) -> dict[tuple[int, int], str]:
    """Return `{(model id, token id): text}` of `{model id: token ids}`. One query."""
    if not wanted:
        return {}
    params = [part for model, ids in wanted.items() for part in (model, array_of(ids))]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join([_TEXTS] * len(wanted)), params)
        return {(model, token): text for model, token, text in cursor.fetchall()}


def as_feature_row(row: Near, dictionary: Dictionary, texts: TokenTexts) -> FeatureRow:
    """Shape one row of a dictionary with its model."""

    def shown(ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(texts.get((dictionary.model_id, token), f"#{token}") for token in ids)

    return FeatureRow(
        dictionary=dictionary.id,
        model=dictionary.model.slug,
        source=dictionary.source,
        index=row.index,
        label=row.label,
        label_author=row.label_author,
        density=row.firing_count / (dictionary.stats.get("n_tokens") or 1),
        firing_count=row.firing_count,
        maximum=row.maximum,
        token_entropy=row.token_entropy,
        peak_tokens=shown(row.peak_token_ids),
        promoted_tokens=shown(row.promoted_ids),
        n_explanations=row.n_explanations,
        group=group_of(dictionary.config, row.index),
    )
