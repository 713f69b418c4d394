"""Lists of features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from features.models import FeatureList, ListMember
from features.results import ListCard, ListPage, Page
from features.selectors.feature_rows import feature_rows
from inference.errors import NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

PER_PAGE = 50


def lists(user: AbstractBaseUser | None = None, *, limit: int = 200) -> tuple[ListCard, ...]:
    """Return the lists, the user's own first, then the newest. One query."""
    user_id = _id(user)
    rows = list(_counted()[:limit])
    rows.sort(key=lambda row: row.owner_id != user_id)
    return tuple(_card(row, user_id) for row in rows)


def feature_list(id: int, user: AbstractBaseUser | None = None, *, page: int = 1) -> ListPage:
    """Return a list and one page of its features in order of arrival; raise NotFound. Six queries."""
    row = _counted().filter(id=id).first()
    if row is None:
        raise NotFound(f"There is no list {id}.", "It may have been deleted.", suggestions=["/lists"], list=id)
    n_pages = max(1, math.ceil(row.n_members / PER_PAGE))
    number = min(max(1, page), n_pages)
    first = (number - 1) * PER_PAGE
    members = list(row.members.values_list("dictionary_id", "index", "note")[first : first + PER_PAGE])
    rows = feature_rows((dictionary, index) for dictionary, index, _ in members)
    return ListPage(
        card=_card(row, _id(user)),
        features=Page(
            rows=tuple(rows[dictionary, index] for dictionary, index, _ in members),
            number=number,
            n_pages=n_pages,
            total=row.n_members,
        ),
        notes=tuple(note for _, _, note in members),
    )


def lists_for_feature(dictionary: int, index: int, user_id: int | None) -> tuple[ListCard, ...]:
    """Return all lists that contain the feature, then the user's others. One query."""
    here = ListMember.objects.filter(list=OuterRef("pk"), dictionary_id=dictionary, index=index)
    rows = _counted().annotate(contains=Exists(here)).filter(Q(contains=True) | Q(owner_id=user_id))
    rows = rows.order_by("-contains", "-updated_at", "-id")
    return tuple(_card(row, user_id, contains=row.contains) for row in rows)


def _counted() -> QuerySet[FeatureList]:
    return FeatureList.objects.select_related("owner").annotate(n_members=Count("members"))


def _card(row: FeatureList, user_id: int | None, *, contains: bool = False) -> ListCard:
    return ListCard(
        id=row.id,
        name=row.name,
        owner=row.owner.get_username(),
        description=row.description,
        n_members=row.n_members,
        updated_at=row.updated_at,
        contains=contains,
        mine=user_id is not None and row.owner_id == user_id,
    )


def _id(user: AbstractBaseUser | None) -> int | None:
    return user.pk if user is not None and user.is_authenticated else None
