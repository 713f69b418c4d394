"""Contexts that match a search, with the features that peak at the match."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from django.db import connection

from features.models import Dictionary
from features.results import ContextHit, FeatureRow
from features.selectors.feature_rows import Address
from features.selectors.search_postings import address_of
from features.selectors.search_sql import FoundContext
from features.words import has_word
from inference import packing

# Contexts that are looked at, in the order of the corpus, and counted.
MAX_CONTEXTS = 50
# Contexts that hold what a chip asks for, whose features satisfy it.
MAX_OF_CHIP = 100
MAX_COUNTED = 500
# Features that peak at the match of a context: those that are asked what chips want, and those that are shown.
MAX_EXAMPLES = 24
MAX_FEATURES = 4
# Tokens around a match where a peak still counts as one at it.
NEAR = 1
# A snippet: characters before the match, characters and lines in all.
BEFORE, LENGTH, LINES = 120, 320, 4
Span = tuple[int, int]
InContext = dict[tuple[int, int], list[tuple[int, Address]]]
# The index tells which texts have all words of a phrase. A pattern tells of most of those, in a tenth of the time, that
# they do not have them one after the other, before the words of the text are made anew to tell it for sure. A last
# letter alone, `don't`, is left to those: it begins very many words.
_HAS_PHRASE = """
numnode(facet_code_query(%s)) > 0
AND facet_code_vector(c.text) @@ (
    regexp_replace(replace(facet_code_query(%s)::text, '<->', '&'), ' & ''.'':\\*$', '')::tsquery{without})
AND (numnode(facet_code_query(%s)) = 1 OR (
    c.text ~* replace(btrim(facet_words(%s)), ' ', '[^[:alnum:]]*')
    AND (facet_code_vector(c.text) @@ facet_code_query(%s)) IS TRUE
))
"""
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def find_contexts(
    dictionaries: Iterable[Dictionary],
    phrases: Sequence[str],
    excluded: Sequence[str] = (),
    *,
    limit: int = MAX_CONTEXTS,
) -> tuple[list[FoundContext], int]:
    """Return `limit` contexts that hold every phrase, each text once, in the order of the corpus, and how many hold it.

    Beside words, signs alone are looked for as they are. The count stops at MAX_COUNTED. Those are the first ones of
    the corpus without a sort of all: contexts lie in its order, and Postgres goes through what an index found from the
    front. One query.
    """
    of_tokenization = _tokenizations(dictionaries)
    match, params = matching(phrases, excluded)
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
        cursor.execute(sql, [list(of_tokenization), *params, MAX_COUNTED, limit])
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


def chip_contexts(
    dictionaries: Iterable[Dictionary], phrases: Sequence[str], excluded: Sequence[str] = ()
) -> dict[tuple[int, ...], list[int]]:
    """Return the ordinals of the first MAX_OF_CHIP contexts that hold every phrase, by the dictionaries that have them.

    One query.
    """
    of_tokenization = _tokenizations(dictionaries)
    match, params = matching(phrases, excluded)
    sql = f"""
        SELECT c.tokenization_id, c.ordinal FROM features_context c
        WHERE c.tokenization_id = ANY(%s) AND {match} AND c.duplicate_of = c.ordinal LIMIT {MAX_OF_CHIP}
    """
    found: dict[tuple[int, ...], list[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, [list(of_tokenization), *params])
        for tokenization, ordinal in cursor.fetchall():
            found.setdefault(tuple(of_tokenization[tokenization]), []).append(ordinal)
    return found


def _tokenizations(dictionaries: Iterable[Dictionary]) -> dict[int, list[int]]:
    """Return `{tokenization id: dictionary ids}` of dictionaries."""
    of_tokenization: dict[int, list[int]] = {}
    for dictionary in dictionaries:
        if dictionary.tokenization_id is not None:
            of_tokenization.setdefault(dictionary.tokenization_id, []).append(dictionary.id)
    return of_tokenization


def matching(phrases: Sequence[str], excluded: Sequence[str]) -> tuple[str, list[str]]:
    """Return the condition on `c`, a context, that it holds the phrases, with its parameters."""
    # What is excluded is part of the query, where the index answers it: on its own it would be computed for each text.
    without = " && !!facet_code_query(%s)" * len(excluded)
    clauses, params = [], []
    for phrase in phrases:
        if has_word(phrase):
            clauses.append(_HAS_PHRASE.format(without=without))
            params += [phrase, phrase, *excluded, phrase, phrase, phrase]
        else:
            clauses.append("strpos(c.text, %s) > 0")
            params.append(phrase)
    return (" AND ".join(clauses), params) if any(map(has_word, phrases)) else ("FALSE", [])


def features_in_contexts(
    contexts: Sequence[FoundContext], phrases: Sequence[str], posting_p: np.ndarray, among: np.ndarray | None
) -> InContext:
    """Return `{(tokenization, ordinal): [(rank, address)]}` of features that peak at a match, MAX_EXAMPLES at most.

    `rank` is the place of the context among the feature's top ones, from 0; the first come first. `posting_p` are those
    of the contexts (postings.CONTEXT); `among`, if not None, the addresses of the features to choose from.
    """
    found: InContext = {}
    if among is not None:
        posting_p = posting_p[np.isin(address_of(posting_p["dictionary"], posting_p["index"]), among)]
    posting_p = posting_p[np.lexsort((posting_p["index"], posting_p["dictionary"], posting_p["rank"]))]
    for context in contexts:
        near = list(_tokens_at_match(context, phrases))
        here_p = posting_p[(posting_p["key"] == context.ordinal) & np.isin(posting_p["position"], near)]
        here_p = here_p[np.isin(here_p["dictionary"], context.dictionaries)][:MAX_EXAMPLES]
        found[context.tokenization, context.ordinal] = [
            (rank, (dictionary, index)) for rank, dictionary, index in here_p[["rank", "dictionary", "index"]].tolist()
        ]
    return found


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

    def place(context: FoundContext) -> float:
        features = in_contexts[context.tokenization, context.ordinal]
        return features[0][0] if features else math.inf

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
                features=tuple(rows[address] for _, address in features if address in rows),
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
