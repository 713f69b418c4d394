"""What dictionaries lie at a path or a hub id, why they are taken for what they are, and which models they fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from features.looks.values import DownloadFacts, Problem
from features.models import Dictionary, LanguageModel
from features.origins import Origin, origin_of, same_model, stored_config
from features.selectors.suggestions import no_model
from features.services.checks import path_of
from features.services.dictionaries import check_fits, layer_of, place_for, proposed_source
from features.words import slugify
from inference.dictionaries import DictionaryConfig, find_dictionaries, place_below, read_config
from inference.dictionaries.config import SeveralDictionaries
from inference.dictionaries.hub import cached, is_hub_id, plan
from inference.errors import FacetError, NotFound, using_paths

# A look describes so many; more are counted, and a pattern chooses among them.
MAX_DESCRIBED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a dictionary fits a model; `why` is empty where it does."""

    model: str
    fits: bool
    why: str
    is_named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDictionary:
    """A dictionary that could be added as `model/source`; `known` is its address if it is there already.

    `name` is its place below the path that was looked at. With a `problem` the facts are empty: it cannot be read.
    """

    name: str
    path: str
    n_bytes: int
    problem: Problem | None = None
    architecture: str = ""
    n_features: int = 0
    d_in: int = 0
    d_out: int = 0
    k: int | None = None
    hook_point: str = ""
    hook_point_out: str = ""
    model: str = ""
    source: str = ""
    known: str = ""
    origin: Origin | None = None
    fits: tuple[Fit, ...] = ()

    @property
    def can_be_added(self) -> bool:
        return bool(self.model) and not self.known and self.problem is None


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryLook:
    """What a look found: `n_matching` of `n_found` dictionaries match, the first of which are described.

    With a `download` nothing is on this machine yet. `model` is the model for which they would be added, if one fits.
    """

    path: str
    match: str
    model: str
    n_found: int
    n_matching: int
    dictionaries: tuple[FoundDictionary, ...]
    download: DownloadFacts | None = None

    @property
    def undecided(self) -> bool:
        """Whether something fits several models, of which one must be chosen."""
        return any(not found.model and sum(fit.fits for fit in found.fits) > 1 for found in self.dictionaries)

    @property
    def addable(self) -> tuple[FoundDictionary, ...]:
        return tuple(found for found in self.dictionaries if found.can_be_added)


@using_paths()
def look_at_dictionaries(path: str, *, match: str = "", model: str = "") -> DictionaryLook:
    """Say which dictionaries lie at a path or a hub id, those below it that match a pattern if there is one.

    Without a model, the one that the dictionary names serves if it fits, else the only one that fits. Raises
    UnknownDictionary and what else `read_config` does where a single dictionary cannot be read, NoHub, DiskTooSmall,
    InvalidInput for an empty path, NotFound where nothing matches, and UnknownAddress for an unknown model.
    """
    path = path_of(path)
    models = list(LanguageModel.objects.order_by("slug"))
    if model and model not in {row.slug for row in models}:
        raise no_model(model)
    if is_hub_id(path):
        here = cached(path, of=patterns_of(match))
        if here is None:
            download = plan(path, several=bool(match), of=patterns_of(match))
            return _nothing(path, match, model, DownloadFacts.of(download))
    else:
        here = Path(place_for(path, model=model))
    paths, n_found = _paths(here, match)
    described = [_describe(here, found, models, model) for found in paths[:MAX_DESCRIBED]]
    chosen = Counter(found.model for found in described if found.model).most_common(1)
    return DictionaryLook(
        path=path,
        match=match,
        model=model or (chosen[0][0] if chosen else ""),
        n_found=n_found,
        n_matching=len(paths),
        dictionaries=tuple(_known(_told_apart(described))),
    )


def patterns_of(match: str) -> tuple[str, ...]:
    """Return the patterns of a repository's files that a pattern of dictionaries means."""
    return (match, f"{match}/*") if match else ("*",)


def matching(here: Path, match: str) -> list[Path]:
    """Return the dictionaries below a path whose place below it matches a pattern; raise NotFound for none."""
    found = list(find_dictionaries(here))
    kept = [path for path in found if fnmatch(place_below(path, here), match)]
    if not kept:
        raise NotFound(
            f"None of {len(found)} dictionaries under {here} matches {match!r}.",
            "The pattern is compared with the path below the folder; * also matches slashes.",
            suggestions=[place_below(path, here) for path in found[:20]],
        )
    return kept


def _paths(here: Path, match: str) -> tuple[list[Path], int]:
    """Return the paths of the dictionaries that match, and how many there are."""
    if match:
        kept = matching(here, match)
        return kept, len(list(find_dictionaries(here)))
    try:
        read_config(here, digest=False)
    except SeveralDictionaries:
        found = list(find_dictionaries(here))
        return found, len(found)
    return [here], 1


def _describe(here: Path, path: Path, models: Sequence[LanguageModel], wanted: str) -> FoundDictionary:
    name = path.name if path == here else place_below(path, here)
    try:
        config = read_config(path, digest=False)
    except FacetError as error:
        return FoundDictionary(name=name, path=str(path), n_bytes=0, problem=Problem.of(error))
    fits = tuple(_fit(config, model) for model in models)
    chosen = _chosen(fits, models, wanted)
    return FoundDictionary(
        name=name,
        path=config.path,
        n_bytes=config.weights_path.stat().st_size,
        architecture=config.architecture,
        n_features=config.n_features,
        d_in=config.d_in,
        d_out=config.d_out,
        k=config.k,
        hook_point=config.hook_in,
        hook_point_out=config.hook_out,
        model=chosen.slug if chosen else "",
        source=proposed_source(config, layer_of(config, chosen)) if chosen else "",
        origin=origin_of(stored_config(config), config.format, chosen),
        fits=fits,
    )


def _fit(config: DictionaryConfig, model: LanguageModel) -> Fit:
    is_named = bool(config.model_name) and same_model(config.model_name, model)
    try:
        check_fits(config, model)
    except FacetError as error:
        return Fit(model=model.slug, fits=False, why=error.cause, is_named=is_named)
    return Fit(model=model.slug, fits=True, why="", is_named=is_named)


def _chosen(fits: Sequence[Fit], models: Sequence[LanguageModel], wanted: str) -> LanguageModel | None:
    fitting = [fit for fit in fits if fit.fits and wanted in ("", fit.model)]
    named = [fit for fit in fitting if fit.is_named]
    slug = named[0].model if named else fitting[0].model if len(fitting) == 1 else ""
    return next((model for model in models if model.slug == slug), None)


def _told_apart(described: Sequence[FoundDictionary]) -> list[FoundDictionary]:
    """Return the dictionaries with sources of their own: those that would share one are named by their place."""
    counts = Counter((found.model, found.source) for found in described if found.source)
    apart = []
    for found in described:
        if counts[found.model, found.source] > 1:
            layer = found.source.partition("-")[0]
            found = replace(found, source=f"{layer}-{slugify(found.name)}"[:80])
        apart.append(found)
    return apart


def _known(described: Sequence[FoundDictionary]) -> list[FoundDictionary]:
    """Return the dictionaries with the addresses of those that their model has from the same place. One query.

    For a dictionary that fits no model, or several, any model's serves.
    """
    rows = Dictionary.objects.filter(path__in=[found.path for found in described]).select_related("model")
    known: dict[tuple[str, str], str] = {}
    for row in rows:
        known[row.path, row.model.slug] = known[row.path, ""] = f"/{row.model.slug}/{row.source}"
    return [replace(found, known=known.get((found.path, found.model), "")) for found in described]


def _nothing(path: str, match: str, model: str, download: DownloadFacts) -> DictionaryLook:
    return DictionaryLook(
        path=path, match=match, model=model, n_found=0, n_matching=0, dictionaries=(), download=download
    )
