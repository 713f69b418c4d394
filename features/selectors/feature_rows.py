"""Features as rows of lists: label, density, and what they peak on and promote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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


def row_columns(features: FeatureQuerySet) -> FeatureQuerySet:
    """Load only the columns that a row shows."""
    return features.only(
        "dictionary_id", "index", "firing_count", "maximum", "token_entropy", "peak_token_ids", "promoted_ids"
    )


def as_feature_row(
    feature: Feature | None,
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


def _texts(dictionary: Dictionary, ids: Sequence[int], texts: TokenTexts) -> tuple[str, ...]:
    model = dictionary.model_id
    return tuple(texts.get((model, token), f"#{token}") for token in ids[:SHOWN_TOKENS])
