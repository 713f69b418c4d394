"""Lists of features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from features.models import FeatureList, ListMember
from features.services.checks import existing_feature, own, signed_in, text_of
from inference.errors import Conflict, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MAX_NAME = 120
MAX_DESCRIPTION = 2000
MAX_MEMBERS = 10_000


@transaction.atomic
def create(*, name: str, user: AbstractBaseUser | None, description: str = "") -> FeatureList:
    """Make an empty list; raise Conflict if the person has one of that name."""
    owner = signed_in(user)
    name = text_of(name, what="name", limit=MAX_NAME)
    row, created = FeatureList.objects.get_or_create(
        owner=owner, name=name, defaults={"description": _description(description)}
    )
    if not created:
        raise Conflict(f"You have a list {name!r}.", "Choose another name.", list=row.pk)
    return row


@transaction.atomic
def rename(*, list: int, name: str, user: AbstractBaseUser | None, description: str | None = None) -> FeatureList:
    """Give one's own list another name, and another description where one is given."""
    row = _own_list(list, user)
    name = text_of(name, what="name", limit=MAX_NAME)
    if FeatureList.objects.filter(owner_id=row.owner_id, name=name).exclude(id=row.id).exists():
        raise Conflict(f"You have a list {name!r}.", "Choose another name.", list=row.pk)
    row.name = name
    if description is not None:
        row.description = _description(description)
    row.save(update_fields=["name", "description", "updated_at"])
    return row


@transaction.atomic
def delete(*, list: int, user: AbstractBaseUser | None) -> None:
    """Delete one's own list; the features stay."""
    _own_list(list, user).delete()


@transaction.atomic
def add_member(*, list: int, dictionary: int, index: int, user: AbstractBaseUser | None, note: str = "") -> ListMember:
    """Put a feature on one's own list; one that is there already gets the note, if there is one."""
    row = _own_list(list, user)
    existing_feature(dictionary, index)
    if row.members.count() >= MAX_MEMBERS:
        raise Conflict(f"A list holds at most {MAX_MEMBERS:,} features.", "Begin another list.", list=row.pk)
    note = text_of(note, what="note", limit=500) if note.strip() else ""
    member, created = ListMember.objects.get_or_create(
        list=row, dictionary_id=dictionary, index=index, defaults={"note": note}
    )
    if note and not created:
        member.note = note
        member.save(update_fields=["note"])
    _touch(row)
    return member


@transaction.atomic
def remove_member(*, list: int, dictionary: int, index: int, user: AbstractBaseUser | None) -> None:
    """Take a feature off one's own list; taking off what is not there changes nothing."""
    row = _own_list(list, user)
    ListMember.objects.filter(list=row, dictionary_id=dictionary, index=index).delete()
    _touch(row)


def _own_list(list_id: int, user: AbstractBaseUser | None) -> FeatureList:
    row = FeatureList.objects.select_for_update().filter(id=list_id).first()
    if row is None:
        raise NotFound(
            f"There is no list {list_id}.", "It may have been deleted.", suggestions=["/lists"], list=list_id
        )
    own(user, row.owner_id, "list")
    return row


def _description(text: str) -> str:
    return text_of(text, what="description", limit=MAX_DESCRIPTION) if text.strip() else ""


def _touch(row: FeatureList) -> None:
    row.updated_at = timezone.now()
    row.save(update_fields=["updated_at"])
