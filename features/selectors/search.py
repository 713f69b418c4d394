"""Lexical search over explanations, peak tokens, promoted tokens and contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from features.models import Dictionary
from features.results import ContextHit, FeatureRow, SearchResults
from features.search import Query, parse
from features.selectors.context_hits import as_context_hits, features_in_contexts, find_contexts
from features.selectors.feature_rows import Address, feature_rows
from features.selectors.search_sql import Chips, by_density, by_explanation, by_token, token_ids_of_terms
from features.selectors.suggestions import no_model, no_source
from features.words import storable

MAX_RESULTS = 100
Found = dict[Address, str]


def search(query: str, model: str | None = None, source: str | None = None, limit: int = 20) -> SearchResults:
    """Return at most `limit` hits per kind of evidence, the strongest first; raise UnknownAddress.

    Free words are looked for in every kind of evidence; a chip restricts all kinds, and its own kind shows what it
    found. At most eleven queries.
    """
    parsed = parse(query)
    scope = _scope(storable(model or ""), storable(source or ""))
    limit = min(max(1, limit), MAX_RESULTS)
    if parsed.is_empty or not scope:
        return _results(parsed, {})
    token_ids = token_ids_of_terms(scope.values(), {*parsed.words, *parsed.tokens, *parsed.promotes})
    phrases = (*parsed.words, *parsed.contexts)
    contexts = find_contexts(scope.values(), phrases) if phrases else []
    of_chip = None
    if parsed.contexts:
        of_chip = find_contexts(scope.values(), parsed.contexts) if parsed.words else contexts
    chips = Chips(query=parsed, scope=scope, token_ids=token_ids, contexts=of_chip)

    explained: Found = {}
    if parsed.words or parsed.labels:
        explained = by_explanation(chips, (*parsed.words, *parsed.labels), limit)
    elif not (parsed.tokens or parsed.promotes or parsed.contexts):
        explained = by_density(chips, limit)
    peaking = by_token(chips, parsed.words or parsed.tokens, "peak", limit)
    promoting = by_token(chips, parsed.words or parsed.promotes, "promoted", limit)
    in_contexts = features_in_contexts(contexts, chips)

    in_any = [(dictionary, index) for hits in in_contexts.values() for dictionary, index, _ in hits]
    rows = feature_rows([*explained, *peaking, *promoting, *in_any])
    models = {dictionary.id: dictionary.model.slug for dictionary in scope.values()}
    found = as_context_hits(contexts, in_contexts, rows, phrases, models)
    if chips.ask_more:
        found = [hit for hit in found if hit.features]
    return _results(parsed, rows, explained, peaking, promoting, found[:limit])


def _results(
    parsed: Query,
    rows: Mapping[Address, FeatureRow],
    explained: Mapping[Address, str] = {},
    peaking: Mapping[Address, str] = {},
    promoting: Mapping[Address, str] = {},
    contexts: Sequence[ContextHit] = (),
) -> SearchResults:
    def shaped(found: Mapping[Address, str]) -> tuple[FeatureRow, ...]:
        return tuple(replace(rows[address], matched=why) for address, why in found.items())

    return SearchResults(
        query=parsed.text,
        terms=parsed.describe(),
        ignored=parsed.ignored,
        explanations=shaped(explained),
        peak_tokens=shaped(peaking),
        promoted_tokens=shaped(promoting),
        contexts=tuple(contexts),
    )


def _scope(model: str, source: str) -> dict[int, Dictionary]:
    dictionaries = Dictionary.objects.with_facts()
    if model:
        dictionaries = dictionaries.filter(model__slug=model)
    if source:
        dictionaries = dictionaries.filter(source=source)
    scope = {dictionary.id: dictionary for dictionary in dictionaries}
    if not scope and source and model:
        raise no_source(model, source)
    if not scope and model:
        raise no_model(model)
    return scope
