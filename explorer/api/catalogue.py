"""What there is: models, sources, features, their examples, and search over all of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

from django.http import HttpRequest
from ninja import Query, Router, Schema

from explorer.api.auth import reader
from features import selectors
from features.results import (
    DocumentPage,
    ExampleGroup,
    FeatureCard,
    FeatureRow,
    ModelCard,
    ModelPage,
    SearchResults,
    SourceCard,
    SourceFilters,
    SourcePage,
    TokenFeatures,
)
from inference.errors import InvalidInput

router = Router(tags=["catalogue"])
MAX_PER_PAGE = 200


class Filters(Schema):
    """Which features of a source, and in which order; the fields of `SourceFilters`."""

    text: str = ""
    token: str = ""
    density_low: float | None = None
    density_high: float | None = None
    entropy_low: float | None = None
    entropy_high: float | None = None
    state: Literal["", "alive", "dead", "dense"] = ""
    group: int | None = None
    sort: str = "index"
    page: int = 1
    per_page: int = 50

    def values(self) -> SourceFilters:
        """Return the filters; raise InvalidInput for an order or a page size that there is not."""
        if self.sort.removeprefix("-") not in SourceFilters.SORTS:
            raise InvalidInput(
                f"Features cannot be sorted by {self.sort[:40]!r}.", f"Use one of {', '.join(SourceFilters.SORTS)}."
            )
        if not 1 <= self.per_page <= MAX_PER_PAGE:
            raise InvalidInput(f"per_page is {self.per_page}.", f"Use 1 to {MAX_PER_PAGE}.")
        return SourceFilters(**{field.name: getattr(self, field.name) for field in fields(SourceFilters)})


@router.get("/models", response=list[ModelCard], operation_id="models")
def models(request: HttpRequest) -> list[ModelCard]:
    """Return all models."""
    return list(selectors.home().models)


@router.get("/models/{model}", response=ModelPage, operation_id="model")
def model(request: HttpRequest, model: str) -> ModelPage:
    """Return a model and its sources, in order of depth."""
    return selectors.model_page(model)


@router.get("/sources/{model}/{source}", response=SourceCard, operation_id="source")
def source(request: HttpRequest, model: str, source: str) -> SourceCard:
    """Return one source: its hook points, its weights' digest, and the figures of its build."""
    return selectors.source_card(model, source)


@router.get("/sources/{model}/{source}/features", response=SourcePage, operation_id="features")
def features(request: HttpRequest, model: str, source: str, filters: Query[Filters]) -> SourcePage:
    """Return one page of a source's features, filtered and sorted; `sort` takes a leading "-" for descending."""
    return selectors.source_page(model, source, filters.values())


@router.get("/sources/{model}/{source}/tokens/{int:token_id}", response=TokenFeatures, operation_id="token_features")
def token_features(request: HttpRequest, model: str, source: str, token_id: int) -> TokenFeatures:
    """Return the features of a source that fire most on a token id, as its build found them, strongest first."""
    return selectors.token_features(model, source, token_id)


@router.get("/features/{model}/random", response=FeatureRow, operation_id="random_feature")
def random_feature(request: HttpRequest, model: str, source: str = "") -> FeatureRow:
    """Return a feature that fires, at random, of one source or of all."""
    address = selectors.random_feature(model, source or None)
    return selectors.feature_rows([address])[address]


@router.get("/features/{model}/{source}/{int:index}", response=FeatureCard, operation_id="feature")
def feature(request: HttpRequest, model: str, source: str, index: int) -> FeatureCard:
    """Return everything that a feature's page shows, except examples."""
    return selectors.feature_card(model, source, index, reader(request))


@router.get("/features/{model}/{source}/{int:index}/examples", response=list[ExampleGroup], operation_id="examples")
def examples(
    request: HttpRequest,
    model: str,
    source: str,
    index: int,
    group: int | None = None,
    offset: int = 0,
    limit: int = 10,
) -> list[ExampleGroup]:
    """Return examples of every group, `limit` each, or of one group from `offset` on."""
    if not (offset >= 0 and 1 <= limit <= MAX_PER_PAGE):
        raise InvalidInput(
            f"offset is {offset} and limit {limit}.", f"Use offset 0 or more, limit 1 to {MAX_PER_PAGE}."
        )
    card = selectors.source_card(model, source)
    if group is None:
        return list(selectors.example_groups(card.id, index, limit))
    return [selectors.example_group(card.id, index, group, offset, limit)]


@router.get("/documents/{corpus}/{int:ordinal}", response=DocumentPage, operation_id="document")
def document(request: HttpRequest, corpus: str, ordinal: int) -> DocumentPage:
    """Return a document of a corpus by lines, as it is on disk now."""
    return selectors.document(corpus, ordinal)


@router.get("/search", response=SearchResults, operation_id="search")
def search(request: HttpRequest, q: str, model: str = "", source: str = "", limit: int = 20) -> SearchResults:
    """Search explanations, peak tokens, promoted tokens and contexts; docs/api.md has the language of queries."""
    return selectors.search(q, model or None, source or None, limit)
