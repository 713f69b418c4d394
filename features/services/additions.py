"""Runs that add what lies at a path or on a hub: a model, dictionaries of one, or a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import transaction

from features.models import LanguageModel, Run
from features.selectors.suggestions import no_model
from features.services import runs
from features.services.checks import may_add, path_of, text_of
from features.services.corpora import corpus_slug
from features.services.dictionaries import checked_release, checked_source
from features.services.models import checked_slug
from features.texts.datasets import LIMIT
from features.words import slugify
from inference.errors import InvalidInput

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MOST_AT_ONCE = 500
MOST_DOCUMENTS = 100_000_000


@transaction.atomic
def create_model(
    *, path: str, user: AbstractBaseUser, name: str = "", revision: str = "", description: str = ""
) -> int:
    """Queue a run that adds a language model; return its id. Raises NotAllowed, InvalidInput."""
    path = _place(path, user)
    slug = checked_slug(name or slugify(path.rstrip("/").rpartition("/")[2].partition("@")[0]))
    params = {"what": "model", "path": path, "slug": slug, "revision": revision, "description": description}
    return _create(f"Add the model {slug}", ("download", "load", "store"), params, user)


@transaction.atomic
def create_dictionaries(
    *, path: str, model: str, user: AbstractBaseUser, sources: Mapping[str, str], release: str = ""
) -> int:
    """Queue a run that adds dictionaries for a model: `sources` maps paths to source ids ("" for a proposed one).

    Raises NotAllowed, InvalidInput and UnknownAddress.
    """
    path = _place(path, user)
    if not LanguageModel.objects.filter(slug=model).exists():
        raise no_model(model)
    if not 1 <= len(sources) <= MOST_AT_ONCE:
        raise InvalidInput(f"{len(sources)} dictionaries are chosen.", f"Add 1 to {MOST_AT_ONCE} at once.")
    for place, source in sources.items():
        may_add(user, place)
        if source:
            checked_source(source)
    if release:
        checked_release(release)
    params = {"what": "dictionaries", "path": path, "model": model, "release": release, "sources": dict(sources)}
    title = next(iter(sources)) if len(sources) == 1 else f"{len(sources)} dictionaries of {path}"
    return _create(f"Add to {model}: {title}", ("download", "read"), params, user)


@transaction.atomic
def create_download(*, path: str, match: str, what: str, model: str, user: AbstractBaseUser) -> int:
    """Queue a run that fetches a hub id, so that one can look at it. Raises NotAllowed, InvalidInput."""
    path = _place(path, user)
    params = {"what": "download", "of": what, "path": path, "match": match, "model": model}
    return _create(f"Download {path}", ("download",), params, user)


@transaction.atomic
def create_corpus(
    *,
    path: str,
    user: AbstractBaseUser,
    name: str = "",
    glob: str = "",
    field: str = "",
    limit: int | None = None,
    description: str = "",
) -> int:
    """Queue a run that adds the text of a folder, a file, or a dataset (`hub:OWNER/NAME`, at most `limit` documents).

    `field` is the one of the text in lines of JSON and in Parquet. Raises NotAllowed, InvalidInput.
    """
    path = _place(path, user)
    field = text_of(field or "text", what="field", limit=80)
    last = path.rstrip("/").rpartition("/")[2].partition("@")[0]
    name = text_of(name or last.partition(".")[0], what="name", limit=200)
    corpus_slug(name)
    if limit is not None and not 1 <= limit <= MOST_DOCUMENTS:
        raise InvalidInput(f"{limit:,} documents cannot be copied.", f"Give 1 to {MOST_DOCUMENTS:,}.", limit=limit)
    params = {"what": "corpus", "path": path, "name": name, "glob": glob, "field": field}
    params |= {"limit": limit or LIMIT, "description": description}
    phases = ("copy", "read") if path.startswith("hub:") else ("read",)
    return _create(f"Add the text {name}", phases, params, user)


def _create(title: str, phases: tuple[str, ...], params: Mapping[str, Any], user: AbstractBaseUser) -> int:
    return runs.create(kind=Run.Kind.ADDITION, title=title, phases=phases, params=params, user=user)


def _place(path: str, user: AbstractBaseUser) -> str:
    path = path_of(path)
    may_add(user, path)
    return path
