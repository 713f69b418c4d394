"""Lists of features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.db import connection
from django.db.models import Case, Count, QuerySet, When

from features.models import FeatureList
from features.results import ListCard, ListPage, Page
from features.selectors.feature_rows import feature_rows
from inference.errors import NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

PER_PAGE = 50
# Lists are counted one by one: of many lists, few have the feature or belong to the reader.
_OF_FEATURE = """
SELECT l.id, l.name, l.owner_id, a.username, l.description,
       (SELECT count(*) FROM features_listmember m WHERE m.list_id = l.id), l.updated_at, l.id = ANY(here.ids)
FROM (
    SELECT array(SELECT m.list_id FROM features_listmember m
                 WHERE m.dictionary_id = %(dictionary)s AND m."index" = %(index)s) AS ids
) here
JOIN features_featurelist l ON l.id = ANY(here.ids) OR l.owner_id = %(user)s
JOIN auth_user a ON a.id = l.owner_id
ORDER BY 8 DESC, l.updated_at DESC, l.id DESC
"""


def lists(user: AbstractBaseUser | None = None, *, limit: int = 200) -> tuple[ListCard, ...]:
    """Return the lists, the user's own first, then the newest. One query."""
    user_id = _id(user)
    own_first = Case(When(owner=user_id, then=0), default=1)
    rows = _counted().order_by(own_first, *FeatureList._meta.ordering)[:limit]
    return tuple(_card(row, user_id) for row in rows)


def feature_list(id: int, user: AbstractBaseUser | None = None, *, page: int = 1) -> ListPage:
    """Return a list and one page of its features in order of arrival; raise NotFound. Five queries."""
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
    with connection.cursor() as cursor:
        cursor.execute(_OF_FEATURE, {"dictionary": dictionary, "index": index, "user": user_id})
        return tuple(
            ListCard(
                id=key,
                name=name,
                owner=owner_name,
                description=description,
                n_members=n_members,
                updated_at=updated_at,
                contains=contains,
                mine=user_id is not None and owner == user_id,
            )
            for key, name, owner, owner_name, description, n_members, updated_at, contains in cursor.fetchall()
        )


def _counted() -> QuerySet[FeatureList]:
    return FeatureList.objects.select_related("owner").annotate(n_members=Count("members"))


def _card(row: FeatureList, user_id: int | None) -> ListCard:
    return ListCard(
        id=row.id,
        name=row.name,
        owner=row.owner.get_username(),
        description=row.description,
        n_members=row.n_members,
        updated_at=row.updated_at,
        mine=user_id is not None and row.owner_id == user_id,
    )


def _id(user: AbstractBaseUser | None) -> int | None:
    return user.pk if user is not None and user.is_authenticated else None
