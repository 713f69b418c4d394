"""Lexical search over explanations, peak tokens, promoted tokens and contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from django.db.models import F

from features.models import Dictionary
from features.results import ContextHit, FeatureRow, SearchResults, SearchTotals
from features.search import Query, parse
from features.selectors import search_postings
from features.selectors.context_hits import (
    MAX_CONTEXTS,
    MAX_COUNTED,
    MAX_FEATURES,
    as_context_hits,
    best_first,
    chip_contexts,
    features_in_contexts,
    find_contexts,
)
from features.selectors.feature_rows import Address, feature_rows
from features.selectors.search_explanations import by_explanation
from features.selectors.search_sql import CANDIDATES, Chips, Found, by_density, satisfying, tokens_of_terms
from features.selectors.suggestions import no_model, no_source, no_source_anywhere
from features.words import has_word, storable

MAX_RESULTS = 100
_COLUMNS = ("source", "layer", "n_features", "tokenization_id", "model__slug")
NOTHING = Found(why={})
NONE = SearchTotals()


def search(
    query: str, model: str | None = None, source: str | None = None, limit: int = 20, *, in_contexts: bool = True
) -> SearchResults:
    """Return at most `limit` hits per kind of evidence, the strongest first; raise UnknownAddress.

    Free words are looked for in every kind of evidence, in contexts only if asked; a chip restricts all kinds, and its
    own kind shows what it found. At most ten queries.
    """
    parsed = parse(query)
    scope = _scope(storable(model or ""), storable(source or ""))
    if parsed.layers is not None:
        first, last = parsed.layers
        scope = {key: dictionary for key, dictionary in scope.items() if first <= dictionary.layer <= last}
    is_restricted = bool(model or source or parsed.layers)
    limit = min(max(1, limit), MAX_RESULTS)
    if parsed.is_empty or not scope:
        return _results(parsed, {})
    token_ids, token_texts = tokens_of_terms(scope.values(), {*parsed.words, *parsed.tokens, *parsed.promotes})
    phrases = (*(parsed.words if in_contexts else ()), *parsed.contexts)
    contexts, n_contexts = [], 0
    if phrases:
        # A quarter more than are shown, so that those where a feature peaks come first; of a chip, as many as it can.
        looked_at = MAX_CONTEXTS if parsed.contexts else min(MAX_CONTEXTS, limit + limit // 4)
        contexts, n_contexts = find_contexts(scope.values(), phrases, parsed.excluded, limit=looked_at)
    of_chip = None
    if parsed.contexts:
        of_chip = chip_contexts(scope.values(), parsed.contexts, parsed.excluded)
    posted = search_postings.read(parsed, scope, token_ids, contexts, of_chip)
    chips = Chips(
        query=parsed,
        scope=scope,
        token_texts=token_texts,
        among=search_postings.among(parsed, posted),
        is_restricted=is_restricted,
    )

    explained = NOTHING
    # Explanations have no signs: beside words, those that are looked for say nothing of them.
    if said := (*filter(has_word, parsed.words), *parsed.labels):
        looked_at = CANDIDATES if chips.ask_explained else limit
        explained = by_explanation(chips, said, looked_at)
    looked_at = CANDIDATES if chips.ask_others else limit
    peaking = search_postings.peaking(chips, posted, looked_at)
    promoting = search_postings.promoting(chips, posted, looked_at)
    firing = features_in_contexts(contexts, phrases, posted.context_p, chips.among)
    if chips.ask_others:
        asked = {address for features in firing.values() for _, address in features}
        asked.update(peaking.why, promoting.why, explained.why if chips.ask_explained else ())
        kept = satisfying(chips, asked)
        if chips.ask_explained:
            explained = explained.satisfied(kept, limit)
        peaking, promoting = peaking.satisfied(kept, limit), promoting.satisfied(kept, limit)
        firing = {key: [hit for hit in features if hit[1] in kept] for key, features in firing.items()}
    if not (parsed.words or parsed.labels or parsed.tokens or parsed.promotes or parsed.contexts):
        explained = by_density(chips, limit)
    firing = {key: features[:MAX_FEATURES] for key, features in firing.items()}
    capped = n_contexts >= MAX_COUNTED
    if parsed.labels or parsed.tokens or parsed.promotes or parsed.has_density:
        capped = n_contexts > len(contexts)
        contexts = [context for context in contexts if firing[context.tokenization, context.ordinal]]
        n_contexts = len(contexts)
    shown = best_first(contexts, firing)[:limit]

    in_shown = [address for context in shown for _, address in firing[context.tokenization, context.ordinal]]
    rows = feature_rows([*explained.why, *peaking.why, *promoting.why, *in_shown], known=scope)
    models = {dictionary.id: dictionary.model.slug for dictionary in scope.values()}
    found = as_context_hits(shown, firing, rows, phrases, models)
    totals = SearchTotals(
        explanations=explained.total,
        peak_tokens=peaking.total,
        promoted_tokens=promoting.total,
        contexts=n_contexts,
        capped=tuple(
            kind
            for kind, more in (
                ("explanations", explained.capped),
                ("peak_tokens", peaking.capped),
                ("promoted_tokens", promoting.capped),
                ("contexts", capped),
            )
            if more
        ),
    )
    return _results(parsed, rows, (explained, peaking, promoting), found, totals)


def _results(
    parsed: Query,
    rows: Mapping[Address, FeatureRow],
    kinds: tuple[Found, Found, Found] = (NOTHING, NOTHING, NOTHING),
    contexts: Sequence[ContextHit] = (),
    totals: SearchTotals = NONE,
) -> SearchResults:
    explained, peaking, promoting = (
        tuple(replace(rows[address], matched=why) for address, why in found.why.items()) for found in kinds
    )
    return SearchResults(
        query=parsed.text,
        terms=parsed.describe(),
        ignored=parsed.ignored,
        explanations=explained,
        peak_tokens=peaking,
        promoted_tokens=promoting,
        contexts=tuple(contexts),
        totals=totals,
    )


def _scope(model: str, source: str) -> dict[int, Dictionary]:
    """Return the dictionaries that are searched; of their statistics and configs only what rows of features show."""
    dictionaries = Dictionary.objects.select_related("model").only(*_COLUMNS)
    dictionaries = dictionaries.annotate(n_tokens=F("stats__n_tokens"), group_sizes=F("config__group_sizes"))
    if model:
        dictionaries = dictionaries.filter(model__slug=model)
    if source:
        dictionaries = dictionaries.filter(source=source)
    scope = {dictionary.id: dictionary for dictionary in dictionaries}
    for dictionary in scope.values():
        dictionary.stats = {"n_tokens": dictionary.n_tokens}
        dictionary.config = {"group_sizes": dictionary.group_sizes}
    if not scope and source and model:
        raise no_source(model, source)
    if not scope and source:
        raise no_source_anywhere(source)
    if not scope and model:
        raise no_model(model)
    return scope
