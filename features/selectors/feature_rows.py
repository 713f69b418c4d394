"""Features as rows of lists: label, density, and what they peak on and promote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db import connection
from django.db.models import Q

from features.models import Dictionary, Explanation, Feature, VocabularyToken
from features.origins import group_of
from features.querysets import FeatureQuerySet
from features.results import FeatureRow

Address = tuple[int, int]
SHOWN_TOKENS = 5


class Label(NamedTuple):
    """The explanation shown for a feature; `n` is how many explanations it has."""

    text: str
    author: str
    n: int


NO_LABEL = Label("", "", 0)
TokenTexts = Mapping[tuple[int, int], str]

# A page of one dictionary reads its features and their labels in one statement, written out: it is most of what pages
# ask for, and to build it from parts took longer than to run it.
_NEAR = f"""
SELECT f."index", f.firing_count, f.maximum, f.token_entropy,
       f.peak_token_ids[1:{SHOWN_TOKENS}], f.promoted_ids[1:{SHOWN_TOKENS}],
       label.text, coalesce(nullif(label.username, ''), label.method), label.n
FROM features_feature f
LEFT JOIN LATERAL (
    SELECT e.text, a.username, e.method, count(*) OVER () AS n
    FROM features_explanation e LEFT JOIN auth_user a ON a.id = e.author_id
    WHERE e.dictionary_id = f.dictionary_id AND e."index" = f."index"
    ORDER BY e.author_id IS NULL, e.votes DESC, e.created_at DESC, e.id DESC LIMIT 1
) label ON TRUE
WHERE f.dictionary_id = %s AND f."index" = ANY(%s)
"""


class Near(NamedTuple):
    """What a row shows of a feature, with its label; token ids are cut to SHOWN_TOKENS."""

    index: int
    firing_count: int
    maximum: float
    token_entropy: float
    peak_token_ids: Sequence[int]
    promoted_ids: Sequence[int]
    label: Label


def features_near(dictionary: int, indices: Iterable[int]) -> dict[int, Near]:
    """Return `{index: row}` of one dictionary's features, those that exist. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_NEAR, [dictionary, list(indices)])
        return {
            row[0]: Near(*row[:6], Label(*row[6:]) if row[6] is not None else NO_LABEL) for row in cursor.fetchall()
        }


def feature_rows(addresses: Iterable[Address]) -> dict[Address, FeatureRow]:
    """Return the rows of `(dictionary id, index)` addresses, in their order. Four queries.

    Indices of a dictionary that is not built have rows with zeros; addresses of unknown dictionaries have none.
    """
    addresses = list(dict.fromkeys(addresses))
    wanted = {dictionary for dictionary, _ in addresses}
    dictionaries = {row.id: row for row in Dictionary.objects.filter(id__in=wanted).select_related("model")}
    features = {(row.dictionary_id, row.index): row for row in row_columns(Feature.objects.at(addresses))}
    labels = labels_of(addresses)
    texts = texts_of_rows(features.values(), dictionaries)
    return {
        address: as_feature_row(features.get(address), dictionaries[address[0]], address[1], labels, texts)
        for address in addresses
        if address[0] in dictionaries
    }


def rows_of(dictionary: Dictionary, indices: Sequence[int]) -> tuple[FeatureRow, ...]:
    """Return the rows of one built dictionary's features, in the order of the indices. Two queries."""
    near = features_near(dictionary.id, indices)
    texts = texts_of_model(dictionary.model_id, tokens_near(near.values()))
    return tuple(near_row(near, dictionary, index, texts) for index in indices)


def tokens_near(rows: Iterable[Near]) -> set[int]:
    """Return the ids of the tokens that rows show."""
    return {token for row in rows for token in (*row.peak_token_ids, *row.promoted_ids)}


def near_row(near: Mapping[int, Near], dictionary: Dictionary, index: int, texts: TokenTexts) -> FeatureRow:
    """Shape one of the rows that `features_near` read; zeros where it is not among them."""
    row = near.get(index)
    return as_feature_row(row, dictionary, index, {(dictionary.id, index): row.label} if row else {}, texts)


def row_columns(features: FeatureQuerySet) -> FeatureQuerySet:
    """Load only the columns that a row shows."""
    return features.only(
        "dictionary_id", "index", "firing_count", "maximum", "token_entropy", "peak_token_ids", "promoted_ids"
    )


def as_feature_row(
    feature: Feature | Near | None,
    dictionary: Dictionary,
    index: int,
    labels: Mapping[Address, Label],
    texts: TokenTexts,
    *,
    matched: str = "",
) -> FeatureRow:
    """Shape one row; `feature` is None where the dictionary is not built."""
    label = labels.get((dictionary.id, index), NO_LABEL)
    n_tokens = dictionary.stats.get("n_tokens") or 1
    return FeatureRow(
        dictionary=dictionary.id,
        model=dictionary.model.slug,
        source=dictionary.source,
        index=index,
        label=label.text,
        label_author=label.author,
        density=feature.firing_count / n_tokens if feature else 0.0,
        firing_count=feature.firing_count if feature else 0,
        maximum=feature.maximum if feature else 0.0,
        token_entropy=feature.token_entropy if feature else 0.0,
        peak_tokens=_texts(dictionary, feature.peak_token_ids if feature else (), texts),
        promoted_tokens=_texts(dictionary, feature.promoted_ids if feature else (), texts),
        n_explanations=label.n,
        matched=matched,
        group=group_of(dictionary.config, index),
    )


def labels_of(addresses: Iterable[Address]) -> dict[Address, Label]:
    """Return the label of each feature that has an explanation. One query.

    The label is the best-voted explanation by a person, else the best-voted by a method.
    """
    best = Explanation.objects.at(addresses).best_of_each()
    rows = best.values_list("dictionary_id", "index", "text", "author__username", "method", "n")
    return {(dictionary, index): Label(text, name or method, n) for dictionary, index, text, name, method, n in rows}


def texts_of_rows(features: Iterable[Feature], dictionaries: Mapping[int, Dictionary]) -> dict[tuple[int, int], str]:
    """Return `{(model id, token id): text}` of the tokens that the rows show. One query."""
    wanted: dict[int, set[int]] = {}
    for feature in features:
        ids = wanted.setdefault(dictionaries[feature.dictionary_id].model_id, set())
        ids.update(feature.peak_token_ids[:SHOWN_TOKENS], feature.promoted_ids[:SHOWN_TOKENS])
    return token_texts(wanted)


def token_texts(wanted: Mapping[int, Iterable[int]]) -> dict[tuple[int, int], str]:
    """Return `{(model id, token id): text}` of `{model id: token ids}`. One query."""
    tokens = Q()
    for model, ids in wanted.items():
        tokens |= Q(model_id=model, token_id__in=list(ids))
    if not tokens:
        return {}
    rows = VocabularyToken.objects.filter(tokens).values_list("model_id", "token_id", "text")
    return {(model, token): text for model, token, text in rows}


def texts_of_model(model: int, token_ids: Iterable[int]) -> dict[tuple[int, int], str]:
    """Return `{(model, token id): text}` of one model's tokens. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT token_id, text FROM features_vocabularytoken WHERE model_id = %s AND token_id = ANY(%s)",
            [model, list(token_ids)],
        )
        return {(model, token): text for token, text in cursor.fetchall()}


def _texts(dictionary: Dictionary, ids: Sequence[int], texts: TokenTexts) -> tuple[str, ...]:
    model = dictionary.model_id
    return tuple(texts.get((model, token), f"#{token}") for token in ids[:SHOWN_TOKENS])
