"""Dictionaries, and the filterable, sortable page of a dictionary's features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import connection

from features import postings
from features.fidelity import Fidelity
from features.models import Dictionary, Explanation, Feature, Run, VocabularyToken
from features.origins import origin_of
from features.querysets import FeatureQuerySet
from features.results import Histogram, Page, SourceCard, SourceFilters, SourcePage
from features.selectors.feature_rows import rows_of
from features.selectors.suggestions import no_source
from features.words import fold, storable
from inference.errors import InvalidInput

DENSE = 0.1
MAX_TOKENS = 200
MAX_PER_PAGE = 500
_COLUMNS = {"index": "index", "density": "firing_count", "maximum": "maximum", "entropy": "token_entropy"}
ActiveRuns = Mapping[tuple[int, str], int]
_ACTIVE_RUNS = """
SELECT d.dictionary_id, r.kind, r.id FROM features_run r JOIN features_run_dictionaries d ON d.run_id = r.id
WHERE r.state = ANY(%s)
"""
_VERSION = """
SELECT d.id, d.xmin::text, d.ctid::text, m.xmin::text, m.ctid::text, r.xmin::text, r.ctid::text, t.xmin::text,
       t.ctid::text, c.xmin::text, c.ctid::text
FROM features_dictionary d
JOIN features_languagemodel m ON m.id = d.model_id
LEFT JOIN features_release r ON r.id = d.release_id
LEFT JOIN features_tokenization t ON t.id = d.tokenization_id
LEFT JOIN features_corpus c ON c.id = t.corpus_id
WHERE m.slug = %s AND d.source = %s
"""
MAX_REMEMBERED = 1024
_dictionaries: dict[tuple[str, str], tuple[tuple[object, ...], Dictionary]] = {}
# Hundredths of relative error that are drawn though no token has so much.
ERROR_BINS_SHOWN = 50
_ALL = SourceFilters(sort="", page=1, per_page=1)


def active_runs() -> ActiveRuns:
    """Return `{(dictionary id, kind): run id}` of the runs that are queued or running. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVE_RUNS, [list(Run.ACTIVE)])
        return {(dictionary, kind): run for dictionary, kind, run in cursor.fetchall()}


def dictionary_at(model: str, source: str) -> Dictionary:
    """Return the dictionary at an address with its facts joined; raise UnknownAddress. At most two queries.

    Every page of a feature asks for it, and it hardly ever changes: what was read before is taken again while the
    versions of its rows, which Postgres changes with every write, are the same. Do not change what this returns.
    """
    address = storable(model), storable(source)
    with connection.cursor() as cursor:
        cursor.execute(_VERSION, address)
        version = cursor.fetchone()
    if version is None:
        raise no_source(*address)
    known = _dictionaries.get(address)
    if known is not None and known[0] == version:
        return known[1]
    dictionary = Dictionary.objects.with_facts().filter(id=version[0]).first()
    if dictionary is None:
        raise no_source(*address)
    if len(_dictionaries) >= MAX_REMEMBERED:
        _dictionaries.clear()
    _dictionaries[address] = version, dictionary
    return dictionary


def source_card(model: str, source: str) -> SourceCard:
    """Return one dictionary; raise UnknownAddress. Two queries."""
    return as_source_card(dictionary_at(model, source), active_runs())


def source_cards(model: str | None = None, *, built: bool = False) -> tuple[SourceCard, ...]:
    """Return every dictionary of a model, or of all, in order of depth. Two queries."""
    rows = Dictionary.objects.with_facts().order_by("model__slug", "layer", "source")
    if model is not None:
        rows = rows.filter(model__slug=storable(model))
    if built:
        rows = rows.built()
    running = active_runs()
    return tuple(as_source_card(dictionary, running) for dictionary in rows)


def source_page(model: str, source: str, filters: SourceFilters | None = None) -> SourcePage:
    """Return a dictionary and one page of its features; raise UnknownAddress. At most ten queries.

    Pages beyond the last show the last. Where `token` is given, rows have the share of their activation on it.
    """
    filters = _usable(filters or SourceFilters())
    dictionary = dictionary_at(model, source)
    shares = None
    if filters.token:
        tokens = tokens_like(dictionary.model_id, filters.token)
        shares = postings.features_peaking(dictionary.id, tokens)
    listed, number, total = _listed(dictionary, filters, shares)
    rows = rows_of(dictionary, listed)
    if shares is not None:
        rows = tuple(replace(row, share=shares[row.index]) for row in rows)
    return SourcePage(
        source=as_source_card(dictionary, active_runs()),
        filters=replace(filters, page=number),
        features=Page(rows=rows, number=number, n_pages=_n_pages(filters, total), total=total),
        densities=density_histogram(dictionary),
        l0=l0_histogram(dictionary),
        errors=error_histogram(dictionary),
    )


def _n_pages(filters: SourceFilters, total: int) -> int:
    return max(1, math.ceil(total / filters.per_page))


def _listed(
    dictionary: Dictionary, filters: SourceFilters, shares: Mapping[int, float] | None
) -> tuple[list[int], int, int]:
    """Return the indices of a page, its number, and how many pass the filters. At most three queries."""
    if dictionary.built_at is None or shares == {}:
        return [], 1, 0
    features = _filtered(dictionary, filters, shares)
    if shares is not None and filters.sort.removeprefix("-") == "share":
        sign = -1 if filters.sort.startswith("-") else 1
        passing = sorted(features.values_list("index", flat=True), key=lambda index: (sign * shares[index], index))
        number = min(max(1, filters.page), _n_pages(filters, len(passing)))
        return passing[(number - 1) * filters.per_page : number * filters.per_page], number, len(passing)
    # Counted apart from the page: either is read from an index of its own, both at once from all rows.
    everything = replace(filters, sort="", page=1, per_page=1) == _ALL
    total = dictionary.n_features if everything else features.count()
    number = min(max(1, filters.page), _n_pages(filters, total))
    span = slice((number - 1) * filters.per_page, number * filters.per_page)
    return list(ordered(features, filters.sort).values_list("index", flat=True)[span]), number, total


def _filtered(dictionary: Dictionary, filters: SourceFilters, shares: Mapping[int, float] | None) -> FeatureQuerySet:
    """Keep the features of a dictionary that pass the filters, `shares` those of a token. At most one query."""
    n_tokens = dictionary.stats.get("n_tokens") or 1
    features = Feature.objects.of(dictionary.id)
    among = None if shares is None else set(shares)
    if filters.text.strip():
        explained = Explanation.objects.filter(dictionary_id=dictionary.id).mentioning_all(filters.text)
        indices = set(explained.values_list("index", flat=True))
        among = indices if among is None else among & indices
    if among is not None:
        features = features.within(among)
    features = features.firing_between(filters.density_low, filters.density_high, n_tokens)
    if filters.entropy_low is not None:
        features = features.filter(token_entropy__gte=filters.entropy_low)
    if filters.entropy_high is not None:
        features = features.filter(token_entropy__lte=filters.entropy_high)
    if filters.group is not None:
        features = _of_group(dictionary, features, filters.group)
    if filters.state == "alive":
        return features.alive()
    if filters.state == "dead":
        return features.dead()
    if filters.state == "dense":
        return features.firing_between(DENSE, None, n_tokens)
    return features


def _of_group(dictionary: Dictionary, features: FeatureQuerySet, group: int) -> FeatureQuerySet:
    """Keep the features of one nested group of a Matryoshka dictionary; raise InvalidInput for one it lacks."""
    origin = origin_of(dictionary.config, dictionary.format, None)
    if not 0 <= group < len(origin.group_sizes):
        n_groups = len(origin.group_sizes)
        raise InvalidInput(
            f"{dictionary.source} has no group {group}.",
            f"Its groups are 0 to {n_groups - 1}." if n_groups else "Only Matryoshka dictionaries have groups.",
            group=group,
        )
    first, end = origin.group_range(group)
    return features.filter(index__gte=first, index__lt=end)


def _usable(filters: SourceFilters) -> SourceFilters:
    """Return the filters with what no query can take put right: odd characters, empty pages, bounds that are NaN."""
    bounds = ("density_low", "density_high", "entropy_low", "entropy_high")
    finite = {name: value for name in bounds if (value := getattr(filters, name)) is not None and math.isfinite(value)}
    return replace(
        filters,
        text=storable(filters.text),
        token=storable(filters.token),
        per_page=min(max(1, filters.per_page), MAX_PER_PAGE),
        **dict.fromkeys(bounds) | finite,
    )


def ordered(features: FeatureQuerySet, sort: str) -> FeatureQuerySet:
    """Order by one of SourceFilters.SORTS, "-" first for descending; features with equal values by index."""
    descending = sort.startswith("-")
    column = _COLUMNS.get(sort.removeprefix("-"), "index")
    sign = "-" if descending else ""
    return features.order_by(f"{sign}{column}", *([] if column == "index" else [f"{sign}index"]))


def tokens_like(model: int, text: str, *, prefix: bool = False) -> list[int]:
    """Return the ids of tokens whose text is `text` up to white space around it and case. One query.

    White space alone is looked for as it is.
    """
    folded = fold(text)
    if not folded:
        wanted = {"text": text}
    else:
        wanted = {"folded__startswith": folded} if prefix else {"folded": folded}
    tokens = VocabularyToken.objects.filter(model_id=model, **wanted)
    return list(tokens.order_by("token_id").values_list("token_id", flat=True)[:MAX_TOKENS])


def density_histogram(dictionary: Dictionary) -> Histogram | None:
    """Return the live features by density in bins of a part of a decade, as the build counted them."""
    counted = dictionary.stats.get("densities")
    if not counted or not counted["counts"]:
        return None
    first, per_decade = counted["first"], counted["per_decade"]
    bins = range(first, first + len(counted["counts"]) + 1)
    return Histogram(
        edges=tuple(10 ** (bin_ / per_decade) for bin_ in bins), counts=tuple(counted["counts"]), log_x=True
    )


def l0_histogram(dictionary: Dictionary) -> Histogram | None:
    """Return the tokens of the build by how many features fire; None where it is the same number at all of them."""
    counted = dictionary.stats.get("l0_histogram")
    if not counted or len(counted["counts"]) < 2:
        return None
    first, width, counts = counted["first"], counted["width"], tuple(counted["counts"])
    return Histogram(edges=tuple(float(first + width * bin_) for bin_ in range(len(counts) + 1)), counts=counts)


def error_histogram(dictionary: Dictionary) -> Histogram | None:
    """Return the tokens of the build by relative error, in bins that end the axis where the last token is."""
    counts = dictionary.stats.get("error_histogram") or []
    if not any(counts):
        return None
    last = len(counts)
    while last > ERROR_BINS_SHOWN and not any(counts[last - 10 : last]):
        last -= 10
    return Histogram(edges=tuple(bin_ / len(counts) for bin_ in range(last + 1)), counts=tuple(counts[:last]))


def as_source_card(dictionary: Dictionary, running: ActiveRuns) -> SourceCard:
    """Shape a dictionary whose facts are joined."""
    stats, tokenization = dictionary.stats, dictionary.tokenization
    provenance = stats.get("provenance") or {}
    return SourceCard(
        id=dictionary.id,
        model=dictionary.model.slug,
        source=dictionary.source,
        release=dictionary.release.slug if dictionary.release else "",
        hook_point=dictionary.hook_point,
        hook_point_out=dictionary.hook_point_out,
        layer=dictionary.layer,
        architecture=dictionary.architecture,
        n_features=dictionary.n_features,
        d_in=dictionary.d_in,
        d_out=dictionary.d_out,
        k=dictionary.k,
        sha256=dictionary.sha256,
        built_at=dictionary.built_at,
        n_tokens=stats.get("n_tokens"),
        n_contexts=stats.get("n_contexts"),
        corpus=tokenization.corpus.name if tokenization else "",
        corpus_slug=tokenization.corpus.slug if tokenization else "",
        l0_mean=stats.get("l0_mean"),
        l0_median=stats.get("l0_median"),
        l0_p90=stats.get("l0_p90"),
        explained_variance=stats.get("explained_variance"),
        dead=stats.get("dead"),
        dense=stats.get("dense"),
        has_weights=bool(dictionary.path),
        running_run=running.get((dictionary.id, Run.Kind.BUILD)),
        evaluating_run=running.get((dictionary.id, Run.Kind.EVALUATION)),
        model_revision=provenance.get("model_revision") or dictionary.model.revision,
        precision=provenance.get("precision", ""),
        context_size=tokenization.context_size if tokenization else None,
        excluded=provenance.get("excluded", ""),
        fidelity=_fidelity(stats.get("fidelity")),
        origin=origin_of(dictionary.config, dictionary.format, dictionary.model),
    )


def _fidelity(stored: Mapping[str, Any] | None) -> Fidelity | None:
    if not stored:
        return None
    return Fidelity(**{**stored, "measured_at": datetime.fromisoformat(stored["measured_at"])})
