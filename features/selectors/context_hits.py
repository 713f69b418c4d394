"""Contexts that match a search, with the features that fire at the match."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from django.db import connection

from features import packed_examples
from features.models import Dictionary
from features.results import ContextHit, FeatureRow
from features.selectors.feature_rows import Address
from features.selectors.search_sql import Chips, FoundContext, examples_in
from inference import packing

# Contexts that are looked at, in the order of the corpus, and counted.
MAX_CONTEXTS = 50
MAX_COUNTED = 500
# Features of a context that are looked at, by its rank among their top ones; and shown.
MAX_EXAMPLES = 24
MAX_FEATURES = 4
# Tokens around a match where firing still counts as firing at it.
NEAR = 1
# The share of its peak in the context with which a feature must fire there.
LEAST_SHARE = 0.5
# A snippet: characters before the match, characters and lines in all.
BEFORE, LENGTH, LINES = 120, 320, 4
Span = tuple[int, int]
InContext = dict[tuple[int, int], list[tuple[float, int, Address]]]
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def find_contexts(
    dictionaries: Iterable[Dictionary],
    phrases: Sequence[str],
    excluded: Sequence[str] = (),
    *,
    limit: int = MAX_CONTEXTS,
) -> tuple[list[FoundContext], int]:
    """Return `limit` contexts that hold every phrase, each text once, in the order of the corpus, and how many hold it.

    The count stops at MAX_COUNTED. Those are the first ones of the corpus without a sort of all: contexts lie in its
    order, and Postgres goes through what an index found from the front. One query.
    """
    of_tokenization: dict[int, list[int]] = {}
    for dictionary in dictionaries:
        if dictionary.tokenization_id is not None:
            of_tokenization.setdefault(dictionary.tokenization_id, []).append(dictionary.id)
    match = " AND ".join("facet_code_vector(c.text) @@ facet_code_query(%s)" for _ in phrases)
    match += "".join(" AND NOT facet_code_vector(c.text) @@ facet_code_query(%s)" for _ in excluded)
    sql = f"""
        WITH found AS MATERIALIZED (
            SELECT c.tokenization_id, c.ordinal
            FROM features_context c
            WHERE c.tokenization_id = ANY(%s) AND {match} AND c.duplicate_of = c.ordinal
            LIMIT %s
        )
        SELECT c.tokenization_id, c.ordinal, c.document, c.line, c.text, c.spans, document.name, corpus.slug,
               (SELECT count(*) FROM found)
        FROM (SELECT * FROM found ORDER BY tokenization_id, ordinal LIMIT %s) here
        JOIN features_context c ON c.tokenization_id = here.tokenization_id AND c.ordinal = here.ordinal
        JOIN features_tokenization tokenization ON tokenization.id = c.tokenization_id
        JOIN features_corpus corpus ON corpus.id = tokenization.corpus_id
        JOIN features_document document
            ON document.corpus_id = tokenization.corpus_id AND document.ordinal = c.document
        ORDER BY c.tokenization_id, c.ordinal
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [list(of_tokenization), *phrases, *excluded, MAX_COUNTED, limit])
        rows = cursor.fetchall()
    contexts = [
        FoundContext(
            tokenization=tokenization,
            ordinal=ordinal,
            document=document,
            line=line,
            text=text,
            spans=spans,
            document_name=name,
            corpus_slug=slug,
            dictionaries=tuple(of_tokenization[tokenization]),
        )
        for tokenization, ordinal, document, line, text, spans, name, slug, _ in rows
    ]
    return contexts, rows[0][-1] if rows else 0


def features_in_contexts(contexts: Sequence[FoundContext], phrases: Sequence[str], chips: Chips) -> InContext:
    """Return `{(tokenization, ordinal): [(share, rank, address)]}` of features that fire at a match, the best first.

    `share` is the strongest activation at a match over the feature's strongest in the context; `rank` is the place of
    the context among the feature's top ones, from 0. Features that fire mainly elsewhere in it are left out. One
    query.
    """
    at_match = {(context.tokenization, context.ordinal): _tokens_at_match(context, phrases) for context in contexts}
    found: InContext = {key: [] for key in at_match}
    if not contexts:
        return found
    inside, params = examples_in(contexts)
    ordinals = [context.ordinal for context in contexts]
    branches = []
    all_params: list[object] = []
    for model, dictionaries in chips.models().items():
        clauses, chip_params, join = "TRUE", [], ""
        beyond = chips.contexts is not None and chips.contexts is not contexts
        if chips.ask_more or chips.query.excluded or beyond:
            clauses, chip_params = chips.clauses(model, contexts=beyond)
            # Postgres prunes by each list on its own: it does not carry one over to the other side of a join.
            clauses, chip_params = f"f.dictionary_id = ANY(%s) AND {clauses}", [dictionaries, *chip_params]
            join = 'JOIN features_feature f ON f.dictionary_id = x.dictionary_id AND f."index" = x."index"'
        branches.append(f"""
            SELECT d.tokenization_id, top.context, x.dictionary_id, x."index", top.place - 1 AS rank, x.packed
            FROM features_example x {join}
            JOIN features_dictionary d ON d.id = x.dictionary_id
            CROSS JOIN LATERAL unnest(x.top_contexts) WITH ORDINALITY AS top(context, place)
            WHERE x.dictionary_id = ANY(%s) AND {inside} AND {clauses} AND top.context = ANY(%s)
        """)
        all_params.extend([dictionaries, *params, *chip_params, ordinals])
    sql = f"""
        SELECT tokenization_id, context, dictionary_id, "index", rank, packed FROM (
            SELECT *, row_number() OVER (
                PARTITION BY tokenization_id, context ORDER BY rank, dictionary_id, "index"
            ) AS place
            FROM ({" UNION ALL ".join(branches)}) hits
        ) ranked WHERE place <= %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*all_params, MAX_EXAMPLES])
        for tokenization, context, dictionary, index, rank, packed in cursor.fetchall():
            near = at_match.get((tokenization, context))
            if near is None:
                continue
            peak_value, positions, values = packed_examples.top_firing(rank, packed)
            value = max((value for at, value in zip(positions, values, strict=True) if at in near), default=0.0)
            if value > 0 and value >= LEAST_SHARE * peak_value:
                share = value / peak_value
                found[tokenization, context].append((share, rank, (dictionary, index)))
    return {key: sorted(hits, key=lambda hit: (-hit[0], hit[1], hit[2]))[:MAX_FEATURES] for key, hits in found.items()}


def _tokens_at_match(context: FoundContext, phrases: Sequence[str]) -> set[int]:
    """Return the positions of the tokens that overlap a match, and of those next to them."""
    starts, ends = packing.unpack_spans(context.spans)
    near: set[int] = set()
    for start, end in spans_of(context.text, phrases):
        overlap = np.flatnonzero((starts < end) & (ends > start) & (ends > starts))
        if overlap.size:
            near.update(range(int(overlap[0]) - NEAR, int(overlap[-1]) + NEAR + 1))
    return near


def best_first(contexts: Sequence[FoundContext], in_contexts: InContext) -> list[FoundContext]:
    """Order contexts: those first where a feature peaks at the match."""

    def place(context: FoundContext) -> tuple[float, int]:
        features = in_contexts[context.tokenization, context.ordinal]
        return (-features[0][0], features[0][1]) if features else (math.inf, 0)

    return sorted(contexts, key=place)


def as_context_hits(
    contexts: Sequence[FoundContext],
    in_contexts: InContext,
    rows: Mapping[Address, FeatureRow],
    phrases: Sequence[str],
    models: Mapping[int, str],
) -> list[ContextHit]:
    """Shape the contexts. `models` gives slugs by dictionary id."""
    hits = []
    for context in contexts:
        features = in_contexts[context.tokenization, context.ordinal]
        spans = spans_of(context.text, phrases)
        line = context.line + (context.text.count("\n", 0, spans[0][0]) if spans else 0)
        text, matched = snippet(context.text, spans)
        hits.append(
            ContextHit(
                text=text,
                document=context.document_name,
                document_url=f"/corpora/{context.corpus_slug}/{context.document}#L{line}",
                line=line,
                model=models[context.dictionaries[0]],
                matched=matched,
                features=tuple(rows[address] for _, _, address in features if address in rows),
            )
        )
    return hits


def snippet(text: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """Return the few lines around the first span, with an ellipsis where a line is cut, and the spans in them.

    Empty lines at their ends are left out.
    """
    first = spans[0][0] if spans else 0
    start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, first))) + 1
    cut = first - start > BEFORE
    if cut:
        start = max(text.rfind("\n", 0, first) + 1, first - BEFORE)
        cut = start > 0 and text[start - 1] != "\n"
    if not cut and not text[start:first].partition("\n")[0].strip() and "\n" in text[start:first]:
        start = text.index("\n", start) + 1
    lines = text[start : max(start + LENGTH, spans[0][1] if spans else 0)].split("\n")[:LINES]
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    body = "\n".join(lines)
    end = start + len(body)
    cut_end = end < len(text) and text[end] != "\n"
    shift = len("…") * cut - start
    kept = tuple((a + shift, min(b, end) + shift) for a, b in spans if start <= a < end)
    return "…" * cut + body + "…" * cut_end, kept


def spans_of(text: str, phrases: Sequence[str]) -> tuple[Span, ...]:
    """Return the character spans of the phrases in a text, as the index understands them, to the ends of their words.

    They are in order and do not overlap.
    """
    spans: list[Span] = []
    for phrase in phrases:
        words = [word for part in re.split(r"[\W_]+", phrase) for word in _HUMPS.split(part) if word]
        if words:
            spans += _matches(text, words)
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _matches(text: str, words: Sequence[str]) -> list[Span]:
    pattern = re.compile(r"[\W_]*".join(map(re.escape, words)), re.IGNORECASE)
    starts = [match.span() for match in pattern.finditer(text) if _starts_word(text, match.start())]
    return [(start, _end_of_word(text, end)) for start, end in starts]


def _starts_word(text: str, start: int) -> bool:
    if start == 0 or not text[start - 1].isalnum():
        return True
    return text[start].isupper() and (not text[start - 1].isupper() or text[start + 1 : start + 2].islower())


def _end_of_word(text: str, end: int) -> int:
    while end < len(text) and text[end].isalnum() and not (text[end].isupper() and not text[end - 1].isupper()):
        end += 1
    return end
