"""Contexts that match a search, with the features that peak in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from django.db import connection

from features.models import Dictionary
from features.results import ContextHit, FeatureRow
from features.selectors.feature_rows import Address
from features.selectors.search_sql import Chips, FoundContext, examples_in

MAX_CONTEXTS = 40
MAX_FEATURES = 6
InContext = dict[tuple[int, int], list[tuple[int, int, int]]]
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def find_contexts(dictionaries: Iterable[Dictionary], phrases: Sequence[str]) -> list[FoundContext]:
    """Return contexts that hold every phrase, each text once, in the order of the corpus. One query."""
    of_tokenization: dict[int, list[int]] = {}
    for dictionary in dictionaries:
        if dictionary.tokenization_id is not None:
            of_tokenization.setdefault(dictionary.tokenization_id, []).append(dictionary.id)
    match = " AND ".join("facet_code_vector(c.text) @@ facet_code_query(%s)" for _ in phrases)
    sql = f"""
        SELECT c.tokenization_id, c.ordinal, c.document, c.line, c.text, document.name, corpus.slug
        FROM features_context c
        JOIN features_tokenization tokenization ON tokenization.id = c.tokenization_id
        JOIN features_corpus corpus ON corpus.id = tokenization.corpus_id
        JOIN features_document document
            ON document.corpus_id = tokenization.corpus_id AND document.ordinal = c.document
        WHERE c.tokenization_id = ANY(%s) AND {match} AND c.duplicate_of = c.ordinal
        ORDER BY c.tokenization_id, c.ordinal LIMIT %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [list(of_tokenization), *phrases, MAX_CONTEXTS])
        return [
            FoundContext(
                tokenization=tokenization,
                ordinal=ordinal,
                document=document,
                line=line,
                text=text,
                document_name=name,
                corpus_slug=slug,
                dictionaries=tuple(of_tokenization[tokenization]),
            )
            for tokenization, ordinal, document, line, text, name, slug in cursor
        ]


def features_in_contexts(contexts: Sequence[FoundContext], chips: Chips) -> InContext:
    """Return `{(tokenization, ordinal): [(dictionary, index, rank)]}` of features with the context among their top.

    `rank` is the context's place among the feature's top ones, from 0; the lowest are first. One query.
    """
    found: InContext = {(context.tokenization, context.ordinal): [] for context in contexts}
    if not contexts:
        return found
    inside, params = examples_in(contexts)
    branches = []
    all_params: list[object] = []
    for model, dictionaries in chips.models().items():
        clauses, chip_params, join = "TRUE", [], ""
        beyond = chips.contexts is not None and chips.contexts is not contexts
        if chips.ask_more or beyond:
            clauses, chip_params = chips.clauses(model, contexts=beyond)
            # Postgres prunes by each list on its own: it does not carry one over to the other side of a join.
            clauses, chip_params = f"f.dictionary_id = ANY(%s) AND {clauses}", [dictionaries, *chip_params]
            join = 'JOIN features_feature f ON f.dictionary_id = x.dictionary_id AND f."index" = x."index"'
        branches.append(f"""
            SELECT d.tokenization_id, x.context, x.dictionary_id, x."index", x.rank
            FROM features_example x {join}
            JOIN features_dictionary d ON d.id = x.dictionary_id
            WHERE x.dictionary_id = ANY(%s) AND {inside} AND {clauses}
        """)
        all_params.extend([dictionaries, *params, *chip_params])
    sql = f"""
        SELECT tokenization_id, context, dictionary_id, "index", rank FROM (
            SELECT *, row_number() OVER (
                PARTITION BY tokenization_id, context ORDER BY rank, dictionary_id, "index"
            ) AS place
            FROM ({" UNION ALL ".join(branches)}) hits
        ) ranked WHERE place <= %s ORDER BY rank, dictionary_id, "index"
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*all_params, MAX_FEATURES])
        for tokenization, context, dictionary, index, rank in cursor:
            found[tokenization, context].append((dictionary, index, rank))
    return found


def as_context_hits(
    contexts: Sequence[FoundContext],
    in_contexts: InContext,
    rows: Mapping[Address, FeatureRow],
    phrases: Sequence[str],
    models: Mapping[int, str],
) -> list[ContextHit]:
    """Shape the contexts, those that rank highest with a feature first. `models` gives slugs by dictionary id."""
    hits = []
    for context in contexts:
        features = in_contexts[context.tokenization, context.ordinal]
        matched = spans_of(context.text, phrases)
        line = context.line + (context.text.count("\n", 0, matched[0][0]) if matched else 0)
        hit = ContextHit(
            text=context.text,
            document=context.document_name,
            document_url=f"/corpora/{context.corpus_slug}/{context.document}#L{line}",
            line=line,
            model=models[context.dictionaries[0]],
            matched=matched,
            features=tuple(rows[dictionary, index] for dictionary, index, _ in features if (dictionary, index) in rows),
        )
        hits.append((features[0][2] if features else math.inf, hit))
    return [hit for _, hit in sorted(hits, key=lambda item: item[0])]


def spans_of(text: str, phrases: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the character spans of the phrases in a text, as the index understands them, in order."""
    spans = set()
    for phrase in phrases:
        words = [word for part in re.split(r"[\W_]+", phrase) for word in _HUMPS.split(part) if word]
        if not words:
            continue
        pattern = re.compile(r"[\W_]*".join(map(re.escape, words)), re.IGNORECASE)
        spans.update(match.span() for match in pattern.finditer(text) if _starts_word(text, match.start()))
    return tuple(sorted(spans))


def _starts_word(text: str, start: int) -> bool:
    if start == 0 or not text[start - 1].isalnum():
        return True
    return text[start].isupper() and (not text[start - 1].isupper() or text[start + 1 : start + 2].islower())
