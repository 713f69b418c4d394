"""Accounts of people. Everybody reads; who writes or starts runs has an account."""

from __future__ import annotations

import secrets

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction

from inference.errors import Conflict, InvalidInput


@transaction.atomic
def create(*, name: str, staff: bool = False) -> str:
    """Make an account and return its password, which is stored nowhere else.

    With `staff` it may add from anywhere on this machine and from hubs. Raises InvalidInput for a name that is none,
    Conflict for one that is taken.
    """
    password = secrets.token_urlsafe(9)
    users = get_user_model().objects
    user = users.model(username=name, is_staff=staff)
    user.set_password(password)
    try:
        user.clean_fields()
    except ValidationError as error:
        raise InvalidInput(
            f"{name[:150]!r} cannot be the name of an account.", " ".join(error.messages), name=name[:150]
        ) from error
    if users.filter(username=name).exists():
        raise Conflict(f"There is an account {name!r}.", "`manage.py changepassword` sets another password.")
    user.save()
    return password
