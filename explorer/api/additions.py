"""Adding models, dictionaries and text: look first, then add; and the texts that there are."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Status

from explorer import add_actions
from explorer.api import catalogue, schemas
from explorer.api.auth import SIGNED_IN, caller
from features import selectors
from features.corpus_results import CorpusCard, CorpusPage
from features.looks import CorpusLook, DictionaryLook, ModelLook
from features.run_results import RunCard

router = Router(tags=["additions"])


@router.post("/looks/dictionaries", response=DictionaryLook, auth=SIGNED_IN, operation_id="look_at_dictionaries")
def look_at_dictionaries(request: HttpRequest, body: schemas.DictionaryPlace) -> DictionaryLook:
    """Say which dictionaries lie at a path or a hub id, and which models they fit; nothing is written."""
    return add_actions.look_at_dictionaries(path=body.path, match=body.match, model=body.model, user=caller(request))


@router.post("/looks/models", response=ModelLook, auth=SIGNED_IN, operation_id="look_at_model")
def look_at_model(request: HttpRequest, body: schemas.ModelPlace) -> ModelLook:
    """Say what language model lies at a path or a hub id; nothing is written."""
    return add_actions.look_at_model(path=body.path, revision=body.revision, user=caller(request))


@router.post("/looks/corpora", response=CorpusLook, auth=SIGNED_IN, operation_id="look_at_corpus")
def look_at_corpus(request: HttpRequest, body: schemas.CorpusPlace) -> CorpusLook:
    """Say which files of a folder would be documents; nothing is written."""
    return add_actions.look_at_corpus(
        path=body.path, glob=body.glob, field=body.field, name=body.name, user=caller(request)
    )


@router.post("/dictionaries", response={201: RunCard}, auth=SIGNED_IN, operation_id="add_dictionaries")
def add_dictionaries(request: HttpRequest, body: schemas.DictionariesIn) -> Status[RunCard]:
    """Add the dictionary at a path or a hub id, or all below it that match and fit; returns the run that does it."""
    card = add_actions.add_dictionaries(
        path=body.path,
        match=body.match,
        model=body.model,
        sources={body.path: body.source} if body.source else None,
        release=body.release,
        user=caller(request),
    )
    return Status(201, card)


# Of one address only the router that has it first is asked, whatever the method.
@catalogue.router.post("/models", response={201: RunCard}, auth=SIGNED_IN, operation_id="add_model")
def add_model(request: HttpRequest, body: schemas.ModelIn) -> Status[RunCard]:
    """Add a language model; returns the run that loads it."""
    card = add_actions.add_model(
        path=body.path, name=body.name, revision=body.revision, description=body.description, user=caller(request)
    )
    return Status(201, card)


@router.post("/corpora", response={201: RunCard}, auth=SIGNED_IN, operation_id="add_corpus")
def add_corpus(request: HttpRequest, body: schemas.CorpusIn) -> Status[RunCard]:
    """Add the text of a folder, a file, or a dataset of a hub; returns the run that reads it."""
    card = add_actions.add_corpus(
        path=body.path,
        glob=body.glob,
        field=body.field,
        limit=body.limit,
        name=body.name,
        description=body.description,
        user=caller(request),
    )
    return Status(201, card)


@router.get("/corpora", response=list[CorpusCard], operation_id="corpora")
def corpora(request: HttpRequest) -> list[CorpusCard]:
    """Return all texts."""
    return list(selectors.corpora())


@router.get("/corpora/{corpus}", response=CorpusPage, operation_id="corpus")
def corpus(request: HttpRequest, corpus: str, text: str = "", skipped: bool = False, page: int = 1) -> CorpusPage:
    """Return a text with one page of its documents, and the contexts that tokenizers made of it."""
    return selectors.corpus_page(corpus, text=text, skipped=skipped, page=page)
