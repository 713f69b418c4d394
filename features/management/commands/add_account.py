"""Make an account for somebody."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.management.facet_command import FacetCommand


class Command(FacetCommand):
    help = "Make an account, with which one may label, vote, comment, keep lists and start runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--staff", action="store_true", help="may also add from anywhere on this machine and from hubs"
        )

    def handle(self, *, name: str, staff: bool, **_: Any) -> None:
        password = services.accounts.create(name=name, staff=staff)
        self.stdout.write(f"Account: {name}   Password: {password}   (shown this once)")
