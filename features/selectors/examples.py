"""A feature's examples, by group, with near-duplicates folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db import connection

from features import packed_examples, packed_features
from features.models import Dictionary, Feature
from features.packed_examples import StoredExample
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

_STORED = """
SELECT f.firing_count, f.packed, x.packed
FROM features_feature f
LEFT JOIN features_example x ON x.dictionary_id = %(dictionary)s AND x."index" = f."index"
WHERE f.dictionary_id = %(dictionary)s AND f."index" = %(index)s
"""
_CONTEXTS = """
SELECT context.ordinal, context.n_similar, context.text, context.token_ids, context.spans, context.line,
       context.is_test, context.document, document.name, document.path <> ''
FROM features_context context
JOIN features_document document ON document.corpus_id = %(corpus)s AND document.ordinal = context.document
WHERE context.tokenization_id = %(tokenization)s AND context.ordinal = ANY(%(contexts)s)
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
    facts = _facts(dictionary_id)
    shares, stored = _stored(dictionary_id, index)
    return _groups(facts, shares, stored, list(NAMES), 0, per_group)


def groups_of(
    dictionary: Dictionary, feature: Feature, stored: Sequence[StoredExample], per_group: int
) -> tuple[ExampleGroup, ...]:
    """Return the same of a feature that is loaded with its examples, of a dictionary with its facts. One query."""
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
    return _groups(facts, shares, stored, list(NAMES), 0, per_group)


def example_group(dictionary_id: int, index: int, code: int, offset: int = 0, limit: int = 10) -> ExampleGroup:
    """Return a stretch of one group's examples, near-duplicates folded; raise UnknownAddress. Three queries."""
    if code not in NAMES:
        raise UnknownAddress(f"There is no group {code} of examples.", "Groups are 0 to 7.", group=code)
    facts = _facts(dictionary_id)
    shares, stored = _stored(dictionary_id, index)
    groups = _groups(facts, shares, stored, [code], max(0, offset), max(1, limit))
    if groups:
        return groups[0]
    low, high = BANDS.get(code, (None, None))
    return ExampleGroup(code=code, name=NAMES[code], low=low, high=high, share=None, total=0, examples=())


def unpacked(packed: bytes | None) -> list[StoredExample]:
    """Return the examples in the column of a feature, which one without examples does not have; raise BadBytes."""
    return [] if packed is None else packed_examples.unpack(packed)


def _groups(
    facts: _Facts,
    shares: Mapping[int, float],
    stored: Sequence[StoredExample],
    codes: list[int],
    offset: int,
    limit: int,
) -> tuple[ExampleGroup, ...]:
    kept: dict[int, list[StoredExample]] = {}
    for example in stored:
        if example.folded >= 0:
            kept.setdefault(example.group, []).append(example)
    shown = {code: kept.get(code, [])[offset : offset + limit] for code in codes}
    contexts = _contexts(facts, {example.context for examples in shown.values() for example in examples})
    groups = []
    for code in codes:
        low, high = BANDS.get(code, (None, None))
        share = shares.get(code)
        if shown[code] or share:
            groups.append(
                ExampleGroup(
                    code=code,
                    name=NAMES[code],
                    low=low,
                    high=high,
                    share=share,
                    total=len(kept[code]) if shown[code] else 0,
                    examples=tuple(_card(example, contexts[example.context], facts) for example in shown[code]),
                )
            )
    return tuple(groups)


def _contexts(facts: _Facts, ordinals: set[int]) -> dict[int, tuple]:
    params = {"tokenization": facts.tokenization, "corpus": facts.corpus, "contexts": sorted(ordinals)}
    with connection.cursor() as cursor:
        cursor.execute(_CONTEXTS, params)
        return {row[0]: row[1:] for row in cursor.fetchall()}


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


def _stored(dictionary: int, index: int) -> tuple[dict[int, float], list[StoredExample]]:
    """Return the share of firing tokens in each band, by code, and the examples."""
    with connection.cursor() as cursor:
        cursor.execute(_STORED, {"dictionary": dictionary, "index": index})
        row = cursor.fetchone()
    if row is None:
        return {}, []
    firing_count, packed, examples = row
    bands = packed_features.unpack(packed, firing_count)["band_counts"]
    return _as_shares(firing_count, bands), unpacked(examples)


def _as_shares(firing_count: int, band_counts: Sequence[float]) -> dict[int, float]:
    if not firing_count:
        return {}
    return {code: count / firing_count for code, count in zip(BANDS, band_counts, strict=True)}


def _card(example: StoredExample, of_context: tuple, facts: _Facts) -> ExampleCard:
    n_similar, text, token_ids, spans, line, is_test, document, name, is_here = of_context
    starts, ends = packing.unpack_spans(spans)
    if line:  # imported contexts may not know theirs
        line += text.count("\n", 0, int(starts[example.peak_position]))
    return ExampleCard(
        context=example.context,
        text=text,
        starts=tuple(starts.tolist()),
        ends=tuple(ends.tolist()),
        token_ids=tuple(packing.unpack_tokens(token_ids, facts.d_vocab).tolist()),
        positions=tuple(example.positions),
        values=tuple(example.values),
        peak_position=example.peak_position,
        peak_value=example.peak_value,
        document=name,
        document_url=f"/corpora/{facts.corpus_slug}/{document}#L{line}" if is_here else "",
        line=line,
        split="test" if is_test else "train",
        group=example.group,
        n_similar=n_similar + example.folded,
        has_bos=facts.has_bos,
    )
