"""The queries of search that find features: each is one statement, whatever the number of models and dictionaries.

Token ids mean different things in different models, so a statement has one branch per model. Every branch names its
dictionaries, so that Postgres prunes to their partitions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db import connection

from features.models import Dictionary, VocabularyToken
from features.search import Query
from features.selectors.feature_rows import Address
from features.statistics import Z95
from features.words import fold

# Explanations of a model that are ranked and counted where a word is in very many. Besides, those that begin with it
# and those by people, so many at most, are always ranked: they come first.
CANDIDATES = 1000
ALWAYS = 200
# Features that are ranked for certain of a token that is the first of very many; and forms of a word, such as with and
# without a space, of which each has so many.
LEADING, VARIANTS = 200, 4
MAX_COUNTED = 10_000
_Z = Z95 * Z95
_WILSON_LOW = (
    f"(({{share}} + {_Z / 2} / {{n}} - {Z95} * sqrt(({{share}} * (1 - {{share}}) + {_Z / 4} / {{n}}) / {{n}}))"
    f" / (1 + {_Z} / {{n}}))"
)
_RANKED = """
SELECT hits.dictionary_id, hits."index", t.text, hits.strength, hits.n, {order} AS worth, count(*) OVER ()
FROM (
    SELECT c.dictionary_id, c."index", c.model_id, hit.*
    FROM ({candidates}) c CROSS JOIN LATERAL ({hit} WHERE t.id = ANY(c.tokens)) hit
) hits
LEFT JOIN features_vocabularytoken t ON t.model_id = hits.model_id AND t.token_id = hits.token
ORDER BY worth DESC, hits.dictionary_id, hits."index" LIMIT %s
"""
TokenIds = Mapping[str, Mapping[int, list[int]]]


def _said(value: str) -> str:
    """Return the expression of a text's words in one case: that of the index `explanation_said`."""
    return f"lower(btrim(facet_words({value})))"


_SAID = _said("e.text")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundContext:
    """A context that matches, with the dictionaries that were built on its tokenization."""

    tokenization: int
    ordinal: int
    document: int
    line: int
    text: str
    document_name: str
    corpus_slug: str
    spans: bytes
    dictionaries: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Why each feature was found, the best first; how many there are, or were counted before the cap."""

    why: Mapping[Address, str]
    total: int = 0
    capped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chips:
    """What every hit must satisfy: the chips of the query. `contexts` is None without a `ctx:` chip."""

    query: Query
    scope: Mapping[int, Dictionary]
    token_ids: TokenIds
    contexts: Sequence[FoundContext] | None

    def models(self) -> dict[int, list[int]]:
        """Return `{model id: dictionary ids}` of the scope."""
        models: dict[int, list[int]] = {}
        for dictionary in self.scope.values():
            models.setdefault(dictionary.model_id, []).append(dictionary.id)
        return models

    def clauses(
        self, model: int, *, labels: bool = True, contexts: bool = True, density: bool = True
    ) -> tuple[str, list[Any]]:
        """Return conditions on `f`, a feature, and `d`, its dictionary, with their parameters."""
        clauses, params = [], []
        for terms, column in ((self.query.tokens, "peak_token_ids"), (self.query.promotes, "promoted_ids")):
            for term in terms:
                clauses.append(f"f.{column} && %s::int[]")
                params.append(self.token_ids.get(term, {}).get(model, []))
        if labels:
            for label in self.query.labels:
                clauses.append(
                    "EXISTS (SELECT 1 FROM features_explanation own WHERE own.dictionary_id = f.dictionary_id"
                    ' AND own."index" = f."index" AND own.words @@ facet_prose_query(%s))'
                )
                params.append(label)
        for word in self.query.excluded:
            clauses.append(
                "NOT EXISTS (SELECT 1 FROM features_explanation other WHERE other.dictionary_id = f.dictionary_id"
                ' AND other."index" = f."index" AND other.words @@ facet_prose_query(%s))'
            )
            params.append(word)
        for bound, sign in ((self.query.density_low, ">="), (self.query.density_high, "<=")):
            if bound is not None and density:
                clauses.append(f"f.firing_count {sign} %s * (d.stats->>'n_tokens')::float8")
                params.append(bound)
        if contexts and self.contexts is not None:
            inside, ordinals = examples_in(self.contexts)
            clauses.append(
                '(f.dictionary_id, f."index") IN'
                f' (SELECT x.dictionary_id, x."index" FROM features_example x WHERE {inside})'
            )
            params.extend(ordinals)
        return " AND ".join(clauses) or "TRUE", params

    @property
    def ask_more(self) -> bool:
        """Tell whether a chip other than `ctx:` asks for something of features."""
        query = self.query
        return bool(query.labels or query.tokens or query.promotes or query.has_density)

    @property
    def on_features(self) -> bool:
        """Tell whether a chip other than `label:` says anything about features."""
        query = self.query
        return bool(query.tokens or query.promotes or query.has_density or query.excluded or self.contexts is not None)


def examples_in(contexts: Sequence[FoundContext]) -> tuple[str, list[Any]]:
    """Return the condition on `x`, the examples of a feature with a top one in one of the contexts, and parameters."""
    ordinals: dict[tuple[int, ...], list[int]] = {}
    for context in contexts:
        ordinals.setdefault(context.dictionaries, []).append(context.ordinal)
    clauses, params = [], []
    for dictionaries, inside in ordinals.items():
        clauses.append("(x.dictionary_id = ANY(%s) AND x.top_contexts && %s::int[])")
        params.extend([list(dictionaries), inside])
    return f"({' OR '.join(clauses) or 'FALSE'})", params


def token_ids_of_terms(dictionaries: Iterable[Dictionary], terms: Collection[str]) -> dict[str, dict[int, list[int]]]:
    """Return `{term: {model id: ids}}` of tokens that are a term up to white space and case. One query."""
    found: dict[str, dict[int, list[int]]] = {term: {} for term in terms}
    if not terms:
        return found
    models = {dictionary.model_id for dictionary in dictionaries}
    folded: dict[str, list[str]] = {}
    for term in terms:
        folded.setdefault(fold(term), []).append(term)
    tokens = VocabularyToken.objects.filter(model_id__in=models, folded__in=[text for text in folded if text])
    for model, token, text in tokens.order_by("model_id", "token_id").values_list("model_id", "token_id", "folded"):
        for term in folded[text]:
            found[term].setdefault(model, []).append(token)
    return found


def by_explanation(chips: Chips, phrases: Sequence[str], limit: int) -> Found:
    """Return features with an explanation that has all phrases, and what it says. One query.

    People's come before methods'; then those that are the phrases, begin with the first, begin with a longer form of
    it; then those that say one thing, without a list or a remark in brackets; then by frequency in proportion to
    length, votes and length.
    """
    match = " AND ".join("e.words @@ facet_prose_query(%s)" for _ in phrases)
    # 2 divides by the length of the explanation.
    rank = " + ".join("ts_rank(e.words, facet_prose_query(%s), 2)" for _ in phrases)
    # What people say and what begins with the phrase has an index each, so that neither is lost in a crowd.
    # What begins with the first phrase matches it, and to ask that again would lead Postgres away from the index, as
    # would the other phrases if their index answered for them: hence IS TRUE.
    begins = " AND ".join(
        [f"{_SAID} LIKE {_said('%s')} || '%%'", *["(e.words @@ facet_prose_query(%s)) IS TRUE"] * (len(phrases) - 1)]
    )
    kinds = {
        "starting": (begins, f"ORDER BY {_SAID} USING ~<~ LIMIT {ALWAYS}"),
        "people": (f"e.author_id IS NOT NULL AND {match}", f"ORDER BY e.id LIMIT {ALWAYS}"),
        "found": (match, f"LIMIT {CANDIDATES}"),
    }
    parts, params, any_ = [], [], False
    for name, (which, order) in kinds.items():
        branches = []
        for model, dictionaries in chips.models().items():
            join, clauses, chip_params = "", "TRUE", []
            if chips.on_features:
                clauses, chip_params = chips.clauses(model, labels=False)
                clauses, chip_params = f"f.dictionary_id = ANY(%s) AND {clauses}", [dictionaries, *chip_params]
                join = """
                    JOIN features_feature f ON f.dictionary_id = e.dictionary_id AND f."index" = e."index"
                    JOIN features_dictionary d ON d.id = e.dictionary_id
                """
            branches.append(f"""
                SELECT e.id FROM features_explanation e {join}
                WHERE e.dictionary_id = ANY(%s) AND {which} AND {clauses} {order}
            """)
            params.extend([dictionaries, *phrases, *chip_params])
        any_ = any_ or bool(branches)
        parts.append(f"{name} AS MATERIALIZED ({_union(branches)})")
    if not any_:
        return Found(why={})
    sql = f"""
        WITH {", ".join(parts)}, hits AS (
            SELECT e.*, {rank} AS rank, CASE
                WHEN s.id IS NULL THEN 3
                WHEN {_SAID} = asked.words AND e.text !~ '[,;(]' THEN 0
                WHEN starts_with({_SAID} || ' ', asked.first || ' ') THEN 1
                ELSE 2 END AS place, (e.text ~ '[,;(]')::int AS is_list
            FROM (SELECT id FROM starting UNION SELECT id FROM people UNION SELECT id FROM found) c
            JOIN features_explanation e ON e.id = c.id
            LEFT JOIN starting s ON s.id = e.id
            CROSS JOIN (SELECT {_said("%s")} AS words, {_said("%s")} AS first) asked
        ), best AS (
            SELECT *, row_number() OVER (PARTITION BY dictionary_id, "index" ORDER BY
                author_id IS NULL, place, is_list, rank DESC, votes DESC, length(text), id) AS nth
            FROM hits
        )
        SELECT e.dictionary_id, e."index", e.text, a.username, e.method,
               count(*) OVER (), (SELECT count(*) FROM found)
        FROM best e LEFT JOIN auth_user a ON a.id = e.author_id WHERE e.nth = 1
        ORDER BY e.author_id IS NULL, e.place, e.is_list, e.rank DESC, e.votes DESC, length(e.text),
                 e.dictionary_id, e."index"
        LIMIT %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*params, *phrases, " ".join(phrases), phrases[0], limit])
        rows = cursor.fetchall()
    return Found(
        why={
            (dictionary, index): f"{author or method}: {text}" for dictionary, index, text, author, method, *_ in rows
        },
        total=rows[0][-2] if rows else 0,
        capped=bool(rows) and rows[0][-1] >= CANDIDATES,
    )


def by_token(chips: Chips, terms: Sequence[str], kind: Literal["peak", "promoted"], limit: int) -> Found:
    """Return features that peak on, or promote, one of the terms, the surest or strongest first.

    Peaks are ranked by the lower end of Wilson's interval (Wilson 1927) of the share of activation mass on the tokens,
    with the firings on them as its observations: all of two firings is less than most of a thousand. Promotion is
    ranked by the centred logit effect. Of a token of very many features those are ranked whose first token it is, the
    largest shares first, and so many others. One query, and a second for such a token.
    """
    hit = {
        "peak": """
            SELECT least(sum(t.value), 1) AS strength, greatest(sum(t.count), 1)::float8 AS n,
                   (array_agg(t.id ORDER BY t.value DESC, t.id))[1] AS token
            FROM unnest(c.ids, c.vals, c.counts) AS t(id, value, count)
        """,
        "promoted": """
            SELECT max(t.value) AS strength, 0::float8 AS n, (array_agg(t.id ORDER BY t.value DESC, t.id))[1] AS token
            FROM unnest(c.ids, c.vals) AS t(id, value)
        """,
    }[kind]
    ids, values, counts = {
        "peak": ("peak_token_ids", "peak_token_shares", "f.peak_token_counts"),
        "promoted": ("promoted_ids", "promoted_values", "NULL::int[]"),
    }[kind]
    order = {"peak": _WILSON_LOW.format(share="hits.strength", n="hits.n"), "promoted": "hits.strength"}[kind]
    found: list[str] = []
    leading: list[str] = []
    found_params: list[Any] = []
    leading_params: list[Any] = []
    for model, dictionaries in chips.models().items():
        tokens = sorted({token for term in terms for token in chips.token_ids.get(term, {}).get(model, [])})
        if not tokens:
            continue
        clauses, chip_params = chips.clauses(model)
        select = f"""
            SELECT f.dictionary_id, f."index", d.model_id, %s::int[] AS tokens, f.{ids} AS ids, f.{values} AS vals,
                   {counts} AS counts
            FROM features_feature f
            JOIN features_dictionary d ON d.id = f.dictionary_id
            WHERE f.dictionary_id = ANY(%s) AND {clauses}
        """
        params = [tokens, dictionaries, *chip_params]
        found.append(f"({select} AND f.{ids} && %s::int[] LIMIT {CANDIDATES})")
        found_params += [*params, tokens]
        for token in tokens[:VARIANTS]:
            leading.append(f"({select} AND f.{ids}[1] = %s ORDER BY f.{ids}[1], f.{values}[1] DESC LIMIT {LEADING})")
            leading_params += [*params, token]
    if not found:
        return Found(why={})

    def rows_of(candidates: str, params: Sequence[Any]) -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute(_RANKED.format(candidates=candidates, hit=hit, order=order), [*params, limit])
            return cursor.fetchall()

    rows = rows_of(" UNION ALL ".join(found), found_params)
    total = rows[0][-1] if rows else 0
    if kind == "peak" and total >= CANDIDATES:
        rows += rows_of(" UNION ".join(leading), leading_params)
        rows = sorted({row[:2]: row for row in rows}.values(), key=lambda row: (-row[-2], *row[:2]))[:limit]
    says = {
        "peak": "peaks on “{}”, {:.0%} of its activation (n = {:,.0f})",
        "promoted": "promotes “{}” by {:+.2f}",
    }[kind]
    why = {(dictionary, index): says.format(text, strength, n) for dictionary, index, text, strength, n, *_ in rows}
    return Found(why=why, total=total, capped=total >= CANDIDATES)


def by_density(chips: Chips, limit: int) -> Found:
    """Return the features that fire most among those within the density. One query.

    Every dictionary gives its own most frequent ones, from the index of firings; they are counted up to MAX_COUNTED.
    """
    branches, counted, params, counted_params = [], [], [], []
    for dictionary in chips.scope.values():
        n_tokens = dictionary.stats.get("n_tokens")
        if not n_tokens:
            continue
        clauses, chip_params = chips.clauses(dictionary.model_id, density=False)
        low, high = chips.query.density_low, chips.query.density_high
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                clauses += f" AND f.firing_count {sign} %s"
                chip_params.append((math.ceil if sign == ">=" else math.floor)(min(bound, 1.0) * n_tokens))
        rows = f"FROM features_feature f WHERE f.dictionary_id = %s AND {clauses}"
        branches.append(f"""
            (SELECT f.dictionary_id, f."index", f.firing_count / %s::float8 AS density {rows}
             ORDER BY f.firing_count DESC, f."index" LIMIT {limit:d})
        """)
        params.extend([n_tokens, dictionary.id, *chip_params])
        counted.append(f"SELECT 1 {rows}")
        counted_params.extend([dictionary.id, *chip_params])
    if not branches:
        return Found(why={})
    sql = f"""
        SELECT dictionary_id, "index", density,
               (SELECT count(*) FROM (SELECT 1 FROM ({" UNION ALL ".join(counted)}) a LIMIT {MAX_COUNTED}) b)
        FROM ({" UNION ALL ".join(branches)}) hits ORDER BY density DESC, dictionary_id, "index" LIMIT %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*counted_params, *params, limit])
        rows = cursor.fetchall()
    why = {(dictionary, index): f"fires on {density:.3%} of tokens" for dictionary, index, density, _ in rows}
    total = rows[0][-1] if rows else 0
    return Found(why=why, total=total, capped=total >= MAX_COUNTED)


def _union(branches: Sequence[str]) -> str:
    return " UNION ALL ".join(f"({branch})" for branch in branches)
