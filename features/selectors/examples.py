"""A feature's examples, by group, with near-duplicates folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import connection

from features.models import Dictionary, Feature
from features.results import ExampleCard, ExampleGroup
from features.selectors.suggestions import UnknownAddress
from inference import packing
from inference.dashboards.results import BANDS, HARD_SILENT, RANDOM_SILENT, TOP

NAMES = {
    TOP: "Top",
    **{code: f"{low:g}–{high:g} of maximum" for code, (low, high) in BANDS.items()},
    HARD_SILENT: "Silent, nearest to firing",
    RANDOM_SILENT: "Silent, at random",
}

# Of examples in a group whose windows around their token (the peak; in a band, the sampled one) are equal, the best
# stays and counts the others.
_SQL = """
WITH own AS (
    SELECT "group", rank, context, peak_position, peak_value, positions, "values",
           count(*) OVER same - 1 AS folded,
           row_number() OVER (PARTITION BY "group", fold ORDER BY rank) AS nth
    FROM features_example
    WHERE dictionary_id = %(dictionary)s AND index = %(index)s AND "group" = ANY(%(groups)s)
    WINDOW same AS (PARTITION BY "group", fold)
), kept AS (
    SELECT *, row_number() OVER (PARTITION BY "group" ORDER BY rank) AS place,
           count(*) OVER (PARTITION BY "group") AS total
    FROM own WHERE nth = 1
)
SELECT kept."group", kept.total, kept.context, kept.peak_position, kept.peak_value, kept.positions, kept."values",
       kept.folded + context.n_similar, context.text, context.token_ids, context.spans, context.line, context.is_test,
       context.document, document.name, document.path <> ''
FROM kept
JOIN features_context context ON context.tokenization_id = %(tokenization)s AND context.ordinal = kept.context
JOIN features_document document ON document.corpus_id = %(corpus)s AND document.ordinal = context.document
WHERE kept.place > %(offset)s AND kept.place <= %(offset)s + %(limit)s
ORDER BY kept."group", kept.place
"""


class _Facts(NamedTuple):
    dictionary: int
    tokenization: int
    has_bos: bool
    corpus: int
    corpus_slug: str
    d_vocab: int


def example_groups(dictionary_id: int, index: int, per_group: int = 2) -> tuple[ExampleGroup, ...]:
    """Return the first examples of every group that the feature has, near-duplicates folded. Three queries."""
    return _groups(_facts(dictionary_id), _shares(dictionary_id, index), index, list(NAMES), 0, per_group)


def groups_of(dictionary: Dictionary, feature: Feature, per_group: int) -> tuple[ExampleGroup, ...]:
    """Return the same of a feature that is loaded, of a dictionary with its facts. One query."""
    tokenization = dictionary.tokenization
    facts = _Facts(
        dictionary.id,
        tokenization.pk,
        tokenization.has_bos,
        tokenization.corpus_id,
        tokenization.corpus.slug,
        dictionary.model.d_vocab,
    )
    shares = _as_shares(feature.firing_count, feature.band_counts)
    return _groups(facts, shares, feature.index, list(NAMES), 0, per_group)


def example_group(dictionary_id: int, index: int, code: int, offset: int = 0, limit: int = 10) -> ExampleGroup:
    """Return a stretch of one group's examples, near-duplicates folded; raise UnknownAddress. Three queries."""
    if code not in NAMES:
        raise UnknownAddress(f"There is no group {code} of examples.", "Groups are 0 to 7.", group=code)
    facts, shares = _facts(dictionary_id), _shares(dictionary_id, index)
    groups = _groups(facts, shares, index, [code], max(0, offset), max(1, limit))
    if groups:
        return groups[0]
    low, high = BANDS.get(code, (None, None))
    return ExampleGroup(code=code, name=NAMES[code], low=low, high=high, share=None, total=0, examples=())


def _groups(
    facts: _Facts, shares: Mapping[int, float], index: int, codes: list[int], offset: int, limit: int
) -> tuple[ExampleGroup, ...]:
    cards: dict[int, list[ExampleCard]] = {}
    totals: dict[int, int] = {}
    params = {"dictionary": facts.dictionary, "index": index, "groups": codes, "offset": offset, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(_SQL, params | {"tokenization": facts.tokenization, "corpus": facts.corpus})
        for row in cursor:
            totals[row[0]] = row[1]
            cards.setdefault(row[0], []).append(_card(row, facts))
    groups = []
    for code in codes:
        low, high = BANDS.get(code, (None, None))
        share = shares.get(code)
        if cards.get(code) or share:
            groups.append(
                ExampleGroup(
                    code=code,
                    name=NAMES[code],
                    low=low,
                    high=high,
                    share=share,
                    total=totals.get(code, 0),
                    examples=tuple(cards.get(code, ())),
                )
            )
    return tuple(groups)


def _facts(dictionary: int) -> _Facts:
    row = (
        Dictionary.objects.filter(id=dictionary, tokenization__isnull=False)
        .values_list(
            "id",
            "tokenization_id",
            "tokenization__has_bos",
            "tokenization__corpus_id",
            "tokenization__corpus__slug",
            "model__d_vocab",
        )
        .first()
    )
    if row is None:
        raise UnknownAddress("This dictionary has no examples yet.", "Build its dashboards.", dictionary=dictionary)
    return _Facts(*row)


def _shares(dictionary: int, index: int) -> dict[int, float]:
    """Return the share of firing tokens in each band, by code."""
    row = Feature.objects.of(dictionary).filter(index=index).values_list("firing_count", "band_counts").first()
    return _as_shares(*row) if row is not None else {}


def _as_shares(firing_count: int, band_counts: Sequence[float]) -> dict[int, float]:
    if not firing_count:
        return {}
    return {code: count / firing_count for code, count in zip(BANDS, band_counts, strict=True)}


def _card(row: tuple, facts: _Facts) -> ExampleCard:
    (group, _, context, peak_position, peak_value, positions, values) = row[:7]
    (n_similar, text, token_ids, spans, line, is_test, document, name, is_here) = row[7:]
    starts, ends = packing.unpack_spans(spans)
    if line:  # imported contexts may not know theirs
        line += text.count("\n", 0, int(starts[peak_position]))
    return ExampleCard(
        context=context,
        text=text,
        starts=tuple(starts.tolist()),
        ends=tuple(ends.tolist()),
        token_ids=tuple(packing.unpack_tokens(token_ids, facts.d_vocab).tolist()),
        positions=tuple(packing.unpack_unsigned(positions).tolist()),
        values=tuple(packing.unpack_values(values).tolist()),
        peak_position=peak_position,
        peak_value=peak_value,
        document=name,
        document_url=f"/corpora/{facts.corpus_slug}/{document}#L{line}" if is_here else "",
        line=line,
        split="test" if is_test else "train",
        group=group,
        n_similar=n_similar,
        has_bos=facts.has_bos,
    )
