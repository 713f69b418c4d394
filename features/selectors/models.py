"""Home and model pages."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from features.models import Dictionary, LanguageModel, Release
from features.results import Home, ModelCard, ModelPage, ReleaseCard
from features.selectors.sources import active_runs, as_source_card
from features.selectors.suggestions import no_model
from features.words import storable
from inference.hook_points import owner_of, parts

LATEST = 6


def home() -> Home:
    """Return every model and release, and the dictionaries that were built last. Four queries."""
    running = active_runs()
    latest = Dictionary.objects.built().with_facts().order_by("-built_at", "-id")[:LATEST]
    return Home(
        models=tuple(_model_card(model) for model in _models()),
        releases=tuple(
            ReleaseCard(
                slug=release.slug,
                name=release.name,
                description=release.description,
                url=release.url,
                n_dictionaries=release.n_dictionaries,
                n_features=release.n_features,
            )
            for release in Release.objects.annotate(**_COUNTS)
        ),
        latest=tuple(as_source_card(dictionary, running) for dictionary in latest),
    )


def model_page(slug: str) -> ModelPage:
    """Return a model and its dictionaries in order of depth; raise UnknownAddress. Three queries."""
    slug = storable(slug)
    model = _models().filter(slug=slug).first()
    if model is None:
        raise no_model(slug)
    running = active_runs()
    dictionaries = Dictionary.objects.filter(model=model).with_facts().order_by("layer", "source")
    return ModelPage(
        model=_model_card(model), sources=tuple(as_source_card(dictionary, running) for dictionary in dictionaries)
    )


def companions_of(model: LanguageModel, hook_points: Iterable[str]) -> dict[str, LanguageModel]:
    """Return the other models that have some of the hook points, by slug, if they can be loaded. One query at most."""
    owners = {owner_of(part) for hook_point in hook_points for part in parts(hook_point)} - {"", model.slug}
    rows = LanguageModel.objects.filter(slug__in=owners).exclude(path="") if owners else ()
    return {row.slug: row for row in rows}


_COUNTS = {
    "n_dictionaries": Count("dictionaries"),
    "n_features": Coalesce(Sum("dictionaries__n_features"), 0),
}


def _models() -> object:
    return LanguageModel.objects.annotate(**_COUNTS).order_by("slug")


def _model_card(model: LanguageModel) -> ModelCard:
    return ModelCard(
        id=model.id,
        slug=model.slug,
        name=model.name,
        family=model.family,
        n_layers=model.n_layers,
        d_model=model.d_model,
        context_size=model.context_size,
        d_vocab=model.d_vocab,
        revision=model.revision,
        n_dictionaries=model.n_dictionaries,
        n_features=model.n_features,
        description=model.description,
        has_chat=bool(model.config.get("has_chat")),
    )
