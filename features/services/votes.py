"""Votes on explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Sum

from features.models import Explanation, Vote
from features.services.checks import signed_in
from inference.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


@transaction.atomic
def cast(*, explanation: int, value: int, user: AbstractBaseUser | None) -> int:
    """Set a person's vote, 1 or -1, or take it back with 0; return the new sum of votes."""
    voter = signed_in(user)
    if value not in (-1, 0, 1):
        raise InvalidInput(f"A vote is 1, -1 or 0, not {value}.", "Vote up, down, or take the vote back.", value=value)
    row = Explanation.objects.select_for_update().filter(id=explanation).first()
    if row is None:
        raise NotFound("This explanation is gone.", "Reload the page.", explanation=explanation)
    if value:
        Vote.objects.update_or_create(explanation=row, user=voter, defaults={"value": value})
    else:
        Vote.objects.filter(explanation=row, user=voter).delete()
    row.votes = row.votes_cast.aggregate(total=Sum("value"))["total"] or 0
    row.save(update_fields=["votes"])
    return row.votes
