"""What services ask before they write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from features.models import Dictionary
from features.selectors.suggestions import no_index
from features.words import storable
from inference.errors import InvalidInput, NotAllowed, NotFound, SignInRequired

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

# First path segments that belong to pages: no model may have them.
RESERVED = frozenset(
    {
        *(
            "accounts",
            "add",
            "admin",
            "api",
            "compare",
            "corpora",
            "docs",
            "experiments",
            "health",
            "live",
            "lists",
            "login",
        ),
        *("logout", "metrics", "patterns", "prompt", "random", "releases", "runs", "search", "static", "steer", "x"),
    }
)


def signed_in(user: AbstractBaseUser | None) -> AbstractBaseUser:
    """Return the user, or raise SignInRequired."""
    if user is None or not user.is_authenticated:
        raise SignInRequired("Writing needs an account.", "Sign in and try again.")
    return user


def own(user: AbstractBaseUser | None, owner_id: int | None, what: str) -> None:
    """Raise NotAllowed unless the row is the user's own, or the user is staff."""
    if signed_in(user).pk != owner_id and not user.is_staff:
        raise NotAllowed(f"This {what} belongs to somebody else.", f"Only its author may change a {what}.")


def may_add(user: AbstractBaseUser | None, path_or_id: str) -> None:
    """Raise SignInRequired or NotAllowed unless the user may make this machine read a path, or download an id.

    Staff may add anything; others what lies in the folders of FACET_ADD_FOLDERS. Whether there is something at the
    path is not looked at before.
    """
    if signed_in(user).is_staff:
        return
    named = path_of(path_or_id)
    whole, _, part = named.rpartition("#")
    # A part of a file is a name; what leads on to other folders is none.
    path = Path(whole if whole and "/" not in part else named)
    # What is not absolute may be the id of a hub.
    inside = (path.resolve().is_relative_to(folder) for folder in settings.FACET_ADD_FOLDERS)
    if not (path.is_absolute() and any(inside)):
        raise NotAllowed(
            "This account may not make this machine read that path.",
            "Ask somebody with a staff account to add it, or to list its folder in FACET_ADD_FOLDERS.",
        )


def path_of(value: str) -> str:
    """Return a path or an id as it is looked for; raise InvalidInput if it is empty or too long."""
    return os.path.expanduser(text_of(value, what="path", limit=1000))


def existing_feature(dictionary: int, index: int) -> Dictionary:
    """Return the dictionary of a feature; raise NotFound or UnknownAddress."""
    row = Dictionary.objects.filter(id=dictionary).select_related("model").first()
    if row is None:
        raise NotFound(f"There is no dictionary {dictionary}.", "Reload the page.", dictionary=dictionary)
    if not 0 <= index < row.n_features:
        raise no_index(row.model.slug, row.source, index, row.n_features)
    return row


def text_of(value: str, *, what: str, limit: int) -> str:
    """Return the text without white space around it; raise InvalidInput if it is empty or too long."""
    text = storable(value).strip()
    if not text:
        raise InvalidInput(f"The {what} is empty.", "Write something first.", field=what)
    if len(text) > limit:
        raise InvalidInput(
            f"The {what} has {len(text):,} characters.", f"At most {limit:,} fit.", field=what, limit=limit, n=len(text)
        )
    return text
