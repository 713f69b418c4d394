"""Comments on features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from features.models import Comment
from features.services.checks import existing_feature, own, signed_in, text_of
from inference.errors import NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MAX_LENGTH = 5000


@transaction.atomic
def add(*, dictionary: int, index: int, text: str, user: AbstractBaseUser | None) -> Comment:
    """Add a comment to a feature."""
    author = signed_in(user)
    existing_feature(dictionary, index)
    text = text_of(text, what="comment", limit=MAX_LENGTH)
    return Comment.objects.create(dictionary_id=dictionary, index=index, text=text, author=author)


@transaction.atomic
def delete(*, comment: int, user: AbstractBaseUser | None) -> None:
    """Delete one's own comment."""
    row = Comment.objects.select_for_update().filter(id=comment).first()
    if row is None:
        raise NotFound("This comment is gone already.", "Reload the page.", comment=comment)
    own(user, row.author_id, "comment")
    row.delete()
