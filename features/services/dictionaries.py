"""Adding and removing dictionaries."""

from __future__ import annotations

import re
from pathlib import Path

from django.db import transaction

from features import partitions
from features.models import Dictionary, LanguageModel, Release, Run
from features.origins import stored_config
from features.selectors.suggestions import no_model
from features.words import slugify
from inference.dictionaries import DictionaryConfig, check_fit, read_config
from inference.errors import Conflict, InvalidInput
from inference.hook_points import parse, parts

_SOURCE = re.compile(r"\d+-[A-Za-z0-9_-]+")
# Short names of sites, as published source ids use them.
_SITES = {
    "hook_resid_pre": "respre",
    "hook_resid_mid": "resmid",
    "hook_resid_post": "res",
    "attn.hook_z": "att",
    "hook_attn_out": "attout",
    "hook_mlp_in": "mlpin",
    "hook_mlp_out": "mlp",
    "mlp.hook_post": "neurons",
}


@transaction.atomic
def add_dictionary(
    *, path: str | Path, model: str, source: str = "", release: str = "", release_name: str = ""
) -> Dictionary:
    """Register the dictionary in a folder for a model (its slug); adding the same weights again updates the path.

    Without `source`, the folder's name serves if it is a source id of the right layer, else `{layer}-{set}` is made of
    the hook point and the architecture. Raises UnknownAddress, DictionaryDoesNotFit naming both widths, InvalidInput,
    and Conflict for a source with other weights.
    """
    owner = LanguageModel.objects.filter(slug=model).first()
    if owner is None:
        raise no_model(model)
    config = read_config(path)
    check_fit(
        config,
        model_name=owner.slug,
        family=owner.family,
        n_layers=owner.n_layers,
        d_model=owner.d_model,
        d_heads=owner.n_heads * owner.d_head,
        d_mlp=owner.d_mlp,
    )
    layer = _layer(config, owner.n_layers)
    source = _checked_source(source) if source else _derived_source(config, layer)
    known = Dictionary.objects.select_for_update().filter(model=owner, source=source).first()
    if known is not None:
        if known.sha256 != config.sha256:
            raise Conflict(
                f"{model}/{source} is already there with other weights.",
                "Choose another id with --source.",
                model=model,
                source=source,
            )
        known.path = config.path
        known.save(update_fields=["path"])
        return known
    return Dictionary.objects.create(
        model=owner,
        release=_release(release, release_name),
        source=source,
        layer=layer,
        hook_point=config.hook_in,
        hook_point_out=config.hook_out,
        architecture=config.architecture,
        n_features=config.n_features,
        d_in=config.d_in,
        d_out=config.d_out,
        k=config.k,
        path=config.path,
        sha256=config.sha256,
        format=config.format,
        config=stored_config(config),
    )


@transaction.atomic
def remove_dictionary(*, dictionary: int) -> None:
    """Remove a dictionary with its features, examples, and all that was written about it; raise Conflict if in use."""
    row = Dictionary.objects.select_for_update().select_related("model").get(id=dictionary)
    if run := Run.objects.filter(dictionaries=row, state__in=Run.ACTIVE).first():
        raise Conflict(f"Run {run.pk} is building {row.source}.", "Cancel the run first.", run=run.pk)
    with partitions.short_locks():
        partitions.drop(partitions.features_of(dictionary))
        partitions.drop(partitions.examples_of(dictionary))
    row.delete()


def _layer(config: DictionaryConfig, n_layers: int) -> int:
    layer = parse(parts(config.hook_in)[0]).layer
    return n_layers if layer is None else max(0, layer)


def _checked_source(source: str) -> str:
    if not _SOURCE.fullmatch(source) or len(source) > 80:
        raise InvalidInput(
            f"{source[:100]!r} is not a source id.",
            "Write the layer, a dash and a name, such as 8-res-jb.",
            source=source,
        )
    return source


def _derived_source(config: DictionaryConfig, layer: int) -> str:
    folder = Path(config.path)
    name = folder.name if folder.is_dir() else folder.parent.name
    if _SOURCE.fullmatch(name) and name.startswith(f"{layer}-") and len(name) <= 80:
        return name
    site = parse(parts(config.hook_in)[0]).site
    short = "tc" if config.is_transcoder else _SITES.get(site) or slugify(site.removeprefix("hook_"))
    return f"{layer}-{short}-{slugify(config.architecture)}"


def _release(slug: str, name: str) -> Release | None:
    if not slug:
        return None
    if slug != slugify(slug) or len(slug) > 80:
        raise InvalidInput(f"{slug[:100]!r} is not a slug.", f"Write it as {slugify(slug)[:80]!r}.", release=slug)
    return Release.objects.get_or_create(slug=slug, defaults={"name": name or slug})[0]
