"""Everything that a feature's page shows at once, except examples; and the way to a random feature."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from django.db import connection

from features import packed_json
from features.models import Dictionary, Feature
from features.origins import group_of
from features.results import (
    CommentCard,
    ExplanationCard,
    FeatureCard,
    FeaturePage,
    Histogram,
    Neighbour,
    PeakToken,
    TokenEffect,
)
from features.selectors.examples import groups_of, unpacked
from features.selectors.feature_rows import (
    Address,
    Near,
    TokenTexts,
    as_feature_row,
    features_near,
    token_texts,
    tokens_near,
)
from features.selectors.lists import lists_for_feature
from features.selectors.sources import DENSE, active_runs, as_source_card, dictionary_at
from features.selectors.suggestions import UnknownAddress, no_index, no_model, no_source
from features.statistics import moments, wilson_interval
from features.words import storable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

SINGLE_TOKEN = 0.95
DRAWN = 64

# Written out, because to build them from parts takes longer than to run them.
_FEATURE_FIELDS = [field.attname for field in Feature._meta.concrete_fields if field.column is not None]
# The examples with the feature, which a statement of its own would cost more than to read in vain.
_FEATURE = f"""
SELECT {", ".join(f'f."{name}"' for name in _FEATURE_FIELDS)}, x.packed
FROM features_feature f
LEFT JOIN features_example x ON x.dictionary_id = %(dictionary)s AND x."index" = f."index"
WHERE f.dictionary_id = %(dictionary)s AND f."index" = %(index)s
"""
_EXPLANATIONS = """
SELECT e.id, e.text, e.method, e.author_id, a.username, e.created_at, e.votes, coalesce(v.value, 0), e.evidence
FROM features_explanation e
LEFT JOIN auth_user a ON a.id = e.author_id
LEFT JOIN features_vote v ON v.explanation_id = e.id AND v.user_id = %s
WHERE e.dictionary_id = %s AND e."index" = %s
ORDER BY e.author_id IS NULL, e.votes DESC, e.created_at DESC, e.id DESC
"""
_COMMENTS = """
SELECT c.id, c.author_id, a.username, c.text, c.created_at
FROM features_comment c JOIN auth_user a ON a.id = c.author_id
WHERE c.dictionary_id = %s AND c."index" = %s ORDER BY c.created_at, c.id
"""


class NotBuilt(UnknownAddress):
    """A dictionary whose dashboards are not built yet."""

    code = "not-built"


def feature_card(model: str, source: str, index: int, user: AbstractBaseUser | None = None) -> FeatureCard:
    """Return one feature's card; raise UnknownAddress or NotBuilt. Eight queries."""
    dictionary, feature, _ = _feature_at(model, source, index)
    near = features_near(dictionary.id, _neighbour_ids(feature))
    texts = token_texts({dictionary.model_id: _token_ids(feature)})
    return _card(dictionary, feature, near, texts, user)


def feature_page(
    model: str, source: str, index: int, user: AbstractBaseUser | None = None, *, around: int, per_group: int
) -> FeaturePage:
    """Return a feature's card, the first examples of its groups and the rows `around` it; raise as feature_card.

    Nine queries.
    """
    dictionary, feature, examples = _feature_at(model, source, index)
    rail = range(max(0, index - around), min(dictionary.n_features - 1, index + around) + 1)
    near = features_near(dictionary.id, {*rail, *_neighbour_ids(feature)})
    ids = _token_ids(feature) | tokens_near(near[place] for place in rail)
    texts = token_texts({dictionary.model_id: ids})
    return FeaturePage(
        feature=_card(dictionary, feature, near, texts, user),
        groups=groups_of(dictionary, feature, unpacked(examples), per_group) if dictionary.tokenization_id else (),
        rail=tuple(as_feature_row(near[place], dictionary, texts) for place in rail),
    )


def _feature_at(model: str, source: str, index: int) -> tuple[Dictionary, Feature, bytes | None]:
    """Return a dictionary with its facts, its feature, and its examples for `unpacked`. Two queries."""
    dictionary = dictionary_at(model, source)
    if not 0 <= index < dictionary.n_features:
        raise no_index(model, source, index, dictionary.n_features)
    with connection.cursor() as cursor:
        cursor.execute(_FEATURE, {"dictionary": dictionary.id, "index": index})
        row = cursor.fetchone()
    if row is None:
        raise no_row(dictionary, index)
    return dictionary, Feature.from_db(connection.alias, _FEATURE_FIELDS, row[:-1]), row[-1]


def _neighbour_ids(feature: Feature) -> set[int]:
    return {*feature.decoder_neighbour_ids, *feature.encoder_neighbour_ids, *feature.co_firing_ids}


def _token_ids(feature: Feature) -> set[int]:
    return {*feature.peak_token_ids, *feature.next_token_ids, *feature.promoted_ids, *feature.suppressed_ids}


def _card(
    dictionary: Dictionary,
    feature: Feature,
    near: Mapping[int, Near],
    texts_of_tokens: TokenTexts,
    user: AbstractBaseUser | None,
) -> FeatureCard:
    """Shape a card. Four queries."""
    index = feature.index
    user_id = user.pk if user is not None and user.is_authenticated else None
    n_tokens = dictionary.stats.get("n_tokens") or 0
    mean, deviation, skewness, kurtosis = moments(
        feature.firing_count, feature.total, feature.total_2, feature.total_3, feature.total_4
    )
    density_low, density_high = wilson_interval(feature.firing_count, n_tokens)
    explanations = explanation_cards(dictionary.id, index, user_id)
    texts = {token: texts_of_tokens.get((dictionary.model_id, token), f"#{token}") for token in _token_ids(feature)}
    log_edges = dictionary.stats.get("log_edges") or ()
    measure = dictionary.stats.get("co_firing_measure") or "jaccard"
    return FeatureCard(
        source=as_source_card(dictionary, active_runs()),
        index=index,
        label=explanations[0].text if explanations else "",
        firing_count=feature.firing_count,
        context_count=feature.context_count,
        density=feature.firing_count / n_tokens if n_tokens else 0.0,
        density_low=density_low,
        density_high=density_high,
        maximum=feature.maximum,
        mean=mean,
        deviation=deviation,
        skewness=skewness,
        kurtosis=kurtosis,
        token_entropy=feature.token_entropy,
        burstiness=feature.firing_count / feature.context_count if feature.context_count else 0.0,
        peak_tokens=tuple(
            PeakToken(text=texts[token], share=share, firings=count)
            for token, share, count in zip(
                feature.peak_token_ids, feature.peak_token_shares, feature.peak_token_counts, strict=True
            )
        ),
        next_tokens=tuple(
            (texts[token], count)
            for token, count in zip(feature.next_token_ids, feature.next_token_counts, strict=True)
        ),
        activations=_trimmed(log_edges, feature.histogram),
        logits=Histogram(
            edges=_equal_edges(feature.logit_low, feature.logit_high, len(feature.logit_histogram)),
            counts=tuple(feature.logit_histogram),
        ),
        logit_skewness=feature.logit_skewness,
        logit_kurtosis=feature.logit_kurtosis,
        promoted=_effects(feature.promoted_ids, feature.promoted_values, feature.logit_deviation, texts),
        suppressed=_effects(feature.suppressed_ids, feature.suppressed_values, feature.logit_deviation, texts),
        decoder_neighbours=_neighbours(
            feature.decoder_neighbour_ids, feature.decoder_neighbour_cosines, near, n_tokens
        ),
        encoder_neighbours=_neighbours(
            feature.encoder_neighbour_ids, feature.encoder_neighbour_cosines, near, n_tokens
        ),
        co_firing=_co_firing(feature, near, n_tokens, measure),
        co_firing_measure=measure,
        co_firing_exact=dictionary.stats.get("co_firing_exact", True),
        explanations=explanations,
        comments=_comments(dictionary.id, index, user_id),
        lists=lists_for_feature(dictionary.id, index, user_id),
        previous_index=index - 1 if index else None,
        next_index=index + 1 if index + 1 < dictionary.n_features else None,
        flags=_flags(dictionary, feature, n_tokens),
        group=group_of(dictionary.config, index),
    )


def random_feature(model: str, source: str | None = None) -> Address:
    """Return `(dictionary id, index)` of a feature that fires, of one source or of any built one of a model.

    A dictionary is as likely as it is large. One that hardly ever fires may give a dead feature. Raises
    UnknownAddress or NotBuilt. Two queries.
    """
    model, source = storable(model), None if source is None else storable(source)
    dictionaries = Dictionary.objects.filter(model__slug=model)
    if source is not None:
        dictionaries = dictionaries.filter(source=source)
    sizes = list(dictionaries.order_by("id").values_list("id", "n_features", "built_at"))
    if not sizes:
        raise no_model(model) if source is None else no_source(model, source)
    built = [(dictionary, n_features) for dictionary, n_features, built_at in sizes if built_at]
    name = model if source is None else f"{model}/{source}"
    if not built:
        raise _not_built(name)
    dictionary, n_features = random.choices(built, [n_features for _, n_features in built])[0]
    drawn = random.sample(range(n_features), min(DRAWN, n_features))
    alive = set(Feature.objects.of(dictionary).alive().filter(index__in=drawn).values_list("index", flat=True))
    return dictionary, next((index for index in drawn if index in alive), drawn[0])


def no_row(dictionary: Dictionary, index: int) -> UnknownAddress:
    """Return the error for a feature without a row: its dictionary is not built, or was imported without it."""
    name = f"{dictionary.model.slug}/{dictionary.source}"
    if dictionary.built_at is None:
        return _not_built(name)
    return UnknownAddress(
        f"Feature {index} of {name} is not in the files that were imported.",
        "Choose another one, or import files that have it.",
        suggestions=[f"/{name}"],
        name=name,
        index=index,
    )


def _not_built(name: str) -> NotBuilt:
    return NotBuilt(
        f"The dashboards of {name} are not built yet.",
        "Build them: python manage.py build MODEL/SOURCE --corpus NAME.",
        suggestions=["/runs"],
        name=name,
    )


def explanation_cards(dictionary: int, index: int, user_id: int | None) -> tuple[ExplanationCard, ...]:
    """Return a feature's explanations, its label first. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_EXPLANATIONS, [user_id, dictionary, index])
        rows = cursor.fetchall()
    return tuple(
        ExplanationCard(
            id=key,
            text=text,
            method=method,
            author=name or "",
            created_at=created_at,
            votes=votes,
            my_vote=my_vote,
            evidence=packed_json.unpack(evidence),
            mine=user_id is not None and author == user_id,
        )
        for key, text, method, author, name, created_at, votes, my_vote, evidence in rows
    )


def _comments(dictionary: int, index: int, user_id: int | None) -> tuple[CommentCard, ...]:
    with connection.cursor() as cursor:
        cursor.execute(_COMMENTS, [dictionary, index])
        return tuple(
            CommentCard(
                id=key,
                author=name,
                text=text,
                created_at=created_at,
                mine=user_id is not None and author == user_id,
            )
            for key, author, name, text, created_at in cursor.fetchall()
        )


def _neighbours(
    ids: Sequence[int], values: Sequence[float], near: Mapping[int, Near], n_tokens: int
) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(
            index=index,
            value=value,
            label=near[index].label,
            density=near[index].firing_count / n_tokens if n_tokens else 0.0,
        )
        for index, value in zip(ids, values, strict=True)
    )


def _co_firing(feature: Feature, near: Mapping[int, Near], n_tokens: int, measure: str) -> tuple[Neighbour, ...]:
    """Return co-firing features with the shares both ways, which follow from a Jaccard index and the counts."""
    rows = _neighbours(feature.co_firing_ids, feature.co_firing_jaccards, near, n_tokens)
    if measure != "jaccard":
        return rows
    here = feature.firing_count

    def shares(row: Neighbour) -> Neighbour:
        there = near[row.index].firing_count
        both = row.value * (here + there) / (1 + row.value)
        return replace(
            row,
            share_here=min(1.0, both / here) if here else None,
            share_there=min(1.0, both / there) if there else None,
        )

    return tuple(map(shares, rows))


def _effects(
    ids: Sequence[int], values: Sequence[float], deviation: float, texts: dict[int, str]
) -> tuple[TokenEffect, ...]:
    return tuple(
        TokenEffect(token_id=token, text=texts[token], value=value, z=value / deviation if deviation else 0.0)
        for token, value in zip(ids, values, strict=True)
    )


def _trimmed(edges: Sequence[float], counts: Sequence[int]) -> Histogram:
    """Drop the empty bins at both ends."""
    filled = [bin_ for bin_, count in enumerate(counts) if count]
    if not filled or len(edges) != len(counts) + 1:
        return Histogram(edges=(), counts=(), log_x=True)
    first, last = filled[0], filled[-1] + 1
    return Histogram(edges=tuple(edges[first : last + 1]), counts=tuple(counts[first:last]), log_x=True)


def _equal_edges(low: float, high: float, n_bins: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * bin_ / n_bins for bin_ in range(n_bins + 1)) if n_bins else ()


def _flags(dictionary: Dictionary, feature: Feature, n_tokens: int) -> tuple[str, ...]:
    flags = ["synthetic"] if dictionary.format == "synthetic" else []
    if not feature.firing_count:
        flags.append("dead")
    elif n_tokens and feature.firing_count > DENSE * n_tokens:
        flags.append("dense")
    if feature.peak_token_shares and feature.peak_token_shares[0] >= SINGLE_TOKEN:
        flags.append("one token")
    return tuple(flags)
