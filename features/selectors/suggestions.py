"""Addresses that exist, for addresses that do not."""

from __future__ import annotations

from difflib import get_close_matches

from features.models import Dictionary, LanguageModel
from inference.errors import NotFound


class UnknownAddress(NotFound):
    """A model, source or index that is not there."""

    code = "unknown-address"


def no_model(slug: str) -> UnknownAddress:
    """Return the error for a model that does not exist, with models that do."""
    names = list(LanguageModel.objects.values_list("slug", flat=True))
    return _unknown(f"There is no model {slug!r}.", "/", slug, names, model=slug)


def no_source(model: str, source: str) -> UnknownAddress:
    """Return the error for a source that does not exist, or for its model if that is what is missing."""
    rows = Dictionary.objects.filter(model__slug=model).values_list("source", flat=True)
    names = list(rows)
    if not names and not LanguageModel.objects.filter(slug=model).exists():
        return no_model(model)
    return _unknown(
        f"The model {model} has no source {source!r}.", f"/{model}/", source, names, model=model, source=source
    )


def no_source_anywhere(source: str) -> UnknownAddress:
    """Return the error for a source that no model has, with sources that there are."""
    models = dict(Dictionary.objects.order_by("-id").values_list("source", "model__slug"))
    error = _unknown(f"No model has a source {source!r}.", "", source, list(models), source=source)
    error.details["suggestions"] = [f"/{models[name]}/{name}" for name in error.details["suggestions"]]
    return error


def no_index(model: str, source: str, index: int, n_features: int) -> UnknownAddress:
    """Return the error for an index beyond the dictionary."""
    nearest = min(max(index, 0), n_features - 1)
    return UnknownAddress(
        f"{model}/{source} has no feature {index}.",
        f"Its features are 0 to {n_features - 1}.",
        suggestions=[f"/{model}/{source}/{nearest}"],
        model=model,
        source=source,
        index=index,
    )


class NoWeights(NotFound):
    """A dictionary or a model that is known from imported files alone."""

    code = "no-weights"


def no_weights(model: str, source: str) -> NoWeights:
    """Return the error for what needs weights that are not here."""
    return NoWeights(
        f"{model}/{source} is known from imported files: its weights are not here, so nothing can be run on it.",
        "Add its model and the dictionary itself (add_model, add_dictionary), then import the files for them.",
        suggestions=[f"/{model}/{source}"],
        model=model,
        source=source,
    )


def _unknown(cause: str, prefix: str, wrong: str, names: list[str], **details: object) -> UnknownAddress:
    close = get_close_matches(wrong.lower(), names, n=3, cutoff=0.4) or sorted(names)[:5]
    remedy = (
        "Choose one of those that exist." if close else "Add one first: python manage.py add_model, add_dictionary."
    )
    return UnknownAddress(cause, remedy, suggestions=[f"{prefix}{name}" for name in close], **details)
