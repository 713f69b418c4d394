"""Storing what was measured of a dictionary's fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from features.models import Dictionary
from inference.errors import NotFound


@transaction.atomic
def store(*, dictionary: int, figures: Mapping[str, Any]) -> None:
    """Store figures (JSON-ready; the fields of results.Fidelity) in the place of older ones, with the time of now.

    Raises NotFound for a dictionary that was removed meanwhile.
    """
    row = Dictionary.objects.select_for_update().filter(id=dictionary).first()
    if row is None:
        raise NotFound("The dictionary is not there any more.", "Add it again.", dictionary=dictionary)
    row.stats = {**row.stats, "fidelity": {**figures, "measured_at": timezone.now().isoformat()}}
    row.save(update_fields=["stats"])
