"""Lists of features."""

from __future__ import annotations

from django.http import HttpRequest
from ninja import Router, Status

from explorer.api import schemas
from explorer.api.auth import SIGNED_IN, caller, reader
from features import selectors, services
from features.results import ListCard, ListPage

router = Router(tags=["lists"])


@router.get("/lists", response=list[ListCard], operation_id="lists")
def lists(request: HttpRequest) -> list[ListCard]:
    """Return the lists, the caller's own first."""
    return list(selectors.lists(reader(request)))


@router.get("/lists/{int:list_id}", response=ListPage, operation_id="list")
def one(request: HttpRequest, list_id: int, page: int = 1) -> ListPage:
    """Return a list and one page of its features."""
    return selectors.feature_list(list_id, reader(request), page=page)


@router.post("/lists", response={201: ListCard}, auth=SIGNED_IN, operation_id="create_list")
def create(request: HttpRequest, body: schemas.ListIn) -> Status[ListCard]:
    """Begin an empty list."""
    row = services.lists.create(name=body.name, description=body.description, user=caller(request))
    return Status(201, selectors.feature_list(row.pk, caller(request)).card)


@router.put("/lists/{int:list_id}", response=ListCard, auth=SIGNED_IN, operation_id="rename_list")
def rename(request: HttpRequest, list_id: int, body: schemas.ListEdit) -> ListCard:
    """Give a list of the caller's own another name or description."""
    services.lists.rename(list=list_id, name=body.name, description=body.description, user=caller(request))
    return selectors.feature_list(list_id, caller(request)).card


@router.delete("/lists/{int:list_id}", response={204: None}, auth=SIGNED_IN, operation_id="delete_list")
def delete(request: HttpRequest, list_id: int) -> Status[None]:
    """Delete a list of the caller's own."""
    services.lists.delete(list=list_id, user=caller(request))
    return Status(204, None)


@router.post("/lists/{int:list_id}/members", response={204: None}, auth=SIGNED_IN, operation_id="add_member")
def add(request: HttpRequest, list_id: int, body: schemas.MemberIn) -> Status[None]:
    """Put a feature on a list; one that is there already gets the note, if there is one."""
    card = selectors.source_card(body.model, body.source)
    services.lists.add_member(list=list_id, dictionary=card.id, index=body.index, note=body.note, user=caller(request))
    return Status(204, None)


@router.delete(
    "/lists/{int:list_id}/members/{model}/{source}/{int:index}",
    response={204: None},
    auth=SIGNED_IN,
    operation_id="remove_member",
)
def remove(request: HttpRequest, list_id: int, model: str, source: str, index: int) -> Status[None]:
    """Take a feature off a list."""
    card = selectors.source_card(model, source)
    services.lists.remove_member(list=list_id, dictionary=card.id, index=index, user=caller(request))
    return Status(204, None)
