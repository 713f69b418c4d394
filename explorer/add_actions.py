"""What pages and the API do to add models, dictionaries and text: look, and start the run that adds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from explorer.run_actions import send
from features import jobs, looks, selectors, services
from features.holds import holding_run
from features.run_results import RunCard
from features.services.checks import may_add
from features.services.dictionaries import place_for
from inference.dictionaries import read_config
from inference.dictionaries.hub import is_hub_id
from inference.errors import InvalidInput, using_paths

# What is read whole in less than a few seconds is added while the visitor waits, however busy the workers are.
AT_ONCE_BYTES = 1 << 30
AT_ONCE_FILES = 5000


def look_at_dictionaries(
    *, path: str, match: str = "", model: str = "", user: AbstractBaseUser | None
) -> looks.DictionaryLook:
    """Say which dictionaries lie at a path or a hub id; raises NotAllowed and what `features.looks` does."""
    may_add(user, path)
    return looks.look_at_dictionaries(path, match=match, model=model)


def look_at_model(*, path: str, revision: str = "", user: AbstractBaseUser | None) -> looks.ModelLook:
    """Say what model lies at a path or a hub id; raises NotAllowed and what `features.looks` does."""
    may_add(user, path)
    return looks.look_at_model(path, revision=revision)


def look_at_corpus(
    *, path: str, glob: str = "", field: str = "", name: str = "", user: AbstractBaseUser | None
) -> looks.CorpusLook:
    """Say what text lies at a path; raises NotAllowed and what `features.looks` does."""
    may_add(user, path)
    return looks.look_at_corpus(path, glob=glob, field=field, name=name)


@using_paths()
def add_dictionaries(
    *,
    path: str,
    model: str,
    user: AbstractBaseUser,
    match: str = "",
    sources: Mapping[str, str] | None = None,
    release: str = "",
) -> RunCard:
    """Add dictionaries for a model: those of `sources` ({path: source id}), or all that a look finds and that fit."""
    if sources is None:
        look = look_at_dictionaries(path=path, match=match, model=model, user=user)
        if look.download is not None:
            sources = {path: ""}
        elif not look.addable:
            raise nothing_to_add(look)
        else:
            sources = {found.path: found.source for found in look.addable}
            model = model or look.model
    with transaction.atomic():
        run_id = services.additions.create_dictionaries(
            path=path, model=model, user=user, sources=sources, release=release
        )
        # Of what cannot be read, no run stays.
        at_once = not any(map(is_hub_id, sources)) and _bytes_of(sources, model) <= AT_ONCE_BYTES
    return _begin(run_id, at_once=at_once)


def add_model(
    *, path: str, user: AbstractBaseUser, name: str = "", revision: str = "", description: str = ""
) -> RunCard:
    """Add a language model; a batch worker loads it."""
    return _begin(
        services.additions.create_model(path=path, user=user, name=name, revision=revision, description=description)
    )


def add_corpus(
    *,
    path: str,
    user: AbstractBaseUser,
    name: str = "",
    glob: str = "",
    field: str = "",
    limit: int | None = None,
    description: str = "",
) -> RunCard:
    """Add the text of a folder, a file, or a dataset of a hub."""
    look = look_at_corpus(path=path, glob=glob, name=name, user=user)
    run_id = services.additions.create_corpus(
        path=path, user=user, name=name, glob=glob, field=field, limit=limit, description=description
    )
    is_small = look.n_bytes <= AT_ONCE_BYTES and look.n_files <= AT_ONCE_FILES
    return _begin(run_id, at_once=is_small and not (look.is_dataset or look.n_tables))


def download(*, path: str, what: str, user: AbstractBaseUser, match: str = "", model: str = "") -> RunCard:
    """Fetch a hub id, so that one can look at it; a batch worker does."""
    return _begin(services.additions.create_download(path=path, match=match, what=what, model=model, user=user))


def nothing_to_add(look: looks.DictionaryLook) -> InvalidInput:
    """Return the error for a look that found nothing that could be added, with the first reason."""
    known = next((found.known for found in look.dictionaries if found.known), "")
    if known:
        return InvalidInput(f"It is there already, as {known}.", "Open it.", suggestions=[known])
    problem = next((found.problem for found in look.dictionaries if found.problem), None)
    if problem:
        return InvalidInput(problem.cause, problem.remedy)
    why = next((fit.why for found in look.dictionaries for fit in found.fits if fit.why), "")
    return InvalidInput(
        why or "Nothing says for which model it is.", "Add its model first, or name another that it fits."
    )


def _begin(run_id: int, *, at_once: bool = False) -> RunCard:
    """Carry a run out here and now, or send it to the batch workers."""
    if not at_once:
        transaction.on_commit(lambda: send(run_id))
        return selectors.run(run_id)
    with holding_run(run_id) as held:
        if held:
            jobs.work(run_id)
    return selectors.run(run_id)


def _bytes_of(paths: Iterable[str], model: str) -> int:
    configs = (read_config(place_for(path, model=model), digest=False) for path in paths)
    return sum(config.weights_path.stat().st_size for config in configs)
