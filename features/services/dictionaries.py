"""Adding and removing dictionaries."""

from __future__ import annotations

import re
from pathlib import Path

from django.db import transaction
from django.db.models import Exists, OuterRef

from features import partitions, postings
from features.models import Dictionary, LanguageModel, Release, Run, VocabularyToken
from features.origins import stored_config
from features.selectors.models import companions_of
from features.selectors.suggestions import no_model
from features.words import slugify
from inference.dictionaries import DictionaryConfig, ModelShape, check_fit, local_path, read_config
from inference.dictionaries.config import DictionaryDoesNotFit
from inference.errors import Conflict, InvalidInput
from inference.hook_points import parse, parts

_OWN = re.compile(r"(?:neurons|experts):\d+")
_SOURCE = re.compile(r"\d+-[A-Za-z0-9_-]+")
# The share of tokens that may read otherwise in two models of one dictionary: chat models rename special ones.
_OTHER_TOKENS = 0.01
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

    `neurons:LAYER` and `experts:LAYER` are the model's own. Without `source`, the folder's name serves if it is a
    source id of the right layer, else `{layer}-{set}` is made of the hook point and the architecture, and of the
    path's own names where another dictionary has that already. Raises UnknownAddress, DictionaryDoesNotFit naming
    both widths, InvalidInput, and Conflict for a source with other weights.
    """
    owner = LanguageModel.objects.filter(slug=model).first()
    if owner is None:
        raise no_model(model)
    config = read_config(place_of(path, owner))
    check_fits(config, owner)
    layer = layer_of(config, owner)
    source = checked_source(source) if source else _free_source(config, layer, owner)
    known = Dictionary.objects.select_for_update().filter(model=owner, source=source).first()
    if known is not None:
        if not _is_same(known, config):
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


def check_fits(config: DictionaryConfig, model: LanguageModel) -> None:
    """Raise DictionaryDoesNotFit or UnknownHookPoint unless the model has the dictionary's hook points and widths.

    Of other models that it reads as well, the vocabulary must be the model's but for a few special tokens.
    """
    companions = companions_of(model, (config.hook_in, config.hook_out))
    check_fit(config, _shape(model), {slug: _shape(companion) for slug, companion in companions.items()})
    for companion in companions.values():
        same = VocabularyToken.objects.filter(model=model, token_id=OuterRef("token_id"), text=OuterRef("text"))
        n_other = VocabularyToken.objects.filter(~Exists(same), model=companion).count()
        if n_other > _OTHER_TOKENS * companion.d_vocab:
            raise DictionaryDoesNotFit(
                f"{n_other:,} of the {companion.d_vocab:,} tokens of {companion.slug} read otherwise in {model.slug}.",
                "Add the two models that the dictionary was trained on, which share a tokenizer.",
                models=sorted(config.owners),
            )


def _shape(model: LanguageModel) -> ModelShape:
    return ModelShape(
        name=model.slug,
        family=model.family,
        n_layers=model.n_layers,
        d_model=model.d_model,
        d_heads=model.n_heads * model.d_head,
        d_mlp=model.d_mlp,
        d_vocab=model.d_vocab,
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
        partitions.drop(partitions.token_features_of(dictionary))
    postings.remove(dictionary)
    row.delete()


def layer_of(config: DictionaryConfig, model: LanguageModel) -> int:
    """Return the layer where a dictionary first reads the model; behind the last block, the number of layers."""
    points = [parse(name) for name in parts(config.hook_in)]
    layer = next(point for point in points if point.owner in ("", model.slug)).layer
    return model.n_layers if layer is None else max(0, layer)


def checked_source(source: str) -> str:
    """Return a source id that may be the second segment of an address; raise InvalidInput."""
    if not _SOURCE.fullmatch(source) or len(source) > 80:
        raise InvalidInput(
            f"{source[:100]!r} is not a source id.",
            "Write the layer, a dash and a name, such as 8-res-jb.",
            source=source,
        )
    return source


def proposed_source(config: DictionaryConfig, layer: int) -> str:
    """Return the folder's name if it is a source id of the right layer, else one of layer, site and architecture."""
    part = config.path.rpartition("#")[2]
    if _OWN.fullmatch(part):
        return f"{layer}-{part.partition(':')[0]}"
    folder = Path(config.path.partition("#")[0])
    name = folder.name if folder.is_dir() else folder.parent.name
    if _SOURCE.fullmatch(name) and name.startswith(f"{layer}-") and len(name) <= 80:
        return name
    return f"{layer}-{_short_name(config)}-{slugify(config.architecture)}"


def _short_name(config: DictionaryConfig) -> str:
    if config.is_summand:
        return "clt" if config.is_transcoder else "cc"
    if config.is_transcoder:
        return "tc"
    points = parts(config.hook_in)
    site = parse(points[0]).site
    return "cc" if len(points) > 1 else _SITES.get(site) or slugify(site.removeprefix("hook_"))


def place_for(path: str | Path, *, model: str) -> str | Path:
    """Return what `place_of` does for a model's slug; raise UnknownAddress, and InvalidInput where one is needed."""
    if not _OWN.fullmatch(str(path)):
        return path
    if not model:
        raise InvalidInput(f"{path} is a model's own, and nothing says of which.", "Name the model.", path=str(path))
    owner = LanguageModel.objects.filter(slug=model).first()
    if owner is None:
        raise no_model(model)
    return place_of(path, owner)


def place_of(path: str | Path, model: LanguageModel) -> str | Path:
    """Return a path as it is, and for `neurons:LAYER` and `experts:LAYER` where the model's own files lie."""
    if not _OWN.fullmatch(str(path)):
        return path
    if Path(model.path).exists():
        return f"{model.path}#{path}"
    # Of a hub's model the commit that was added; the digest of a local folder is recorded as its revision.
    commit = f"@{model.revision}" if model.revision and model.revision != model.sha256 else ""
    return f"{local_path(f'{model.path}{commit}')}#{path}"


def _free_source(config: DictionaryConfig, layer: int, model: LanguageModel) -> str:
    """Return the proposed source, or one with more of the path's names where another dictionary has it."""
    proposed = proposed_source(config, layer)
    names = [slugify(name) for name in re.split(r"[/\\#]", config.path) if slugify(name)]
    if slugify(proposed) in names:
        # The folder was given this name on purpose.
        return proposed
    candidates = [proposed, *(f"{proposed}-{'-'.join(names[-count:])}"[:80] for count in range(1, 5))]
    rows = Dictionary.objects.filter(model=model, source__in=candidates)
    taken = {row.source for row in rows if not _is_same(row, config)}
    return next((source for source in candidates if source not in taken), proposed)


def _is_same(row: Dictionary, config: DictionaryConfig) -> bool:
    """Return whether a registered dictionary has these weights, and is the same part of them."""
    return row.sha256 == config.sha256 and row.path.partition("#")[2] == config.path.partition("#")[2]


def checked_release(slug: str) -> str:
    """Return the slug of a release; raise InvalidInput for what is none."""
    if slug != slugify(slug) or len(slug) > 80:
        raise InvalidInput(f"{slug[:100]!r} is not a slug.", f"Write it as {slugify(slug)[:80]!r}.", release=slug)
    return slug


def _release(slug: str, name: str) -> Release | None:
    if not slug:
        return None
    return Release.objects.get_or_create(slug=checked_release(slug), defaults={"name": name or slug})[0]
