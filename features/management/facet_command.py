"""What Facet's commands have in common."""

from __future__ import annotations

import sys

from django.core.management.base import BaseCommand

from inference.errors import FacetError, using_paths


class FacetCommand(BaseCommand):
    """A command whose FacetErrors are one line of cause and one of remedy, with exit status 1 and no traceback."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the command line; `call_command` lets a FacetError through."""
        try:
            with using_paths():
                super().run_from_argv(argv)
        except FacetError as error:
            self.stderr.write(error.cause, self.style.ERROR)
            self.stderr.write(f"  Remedy: {error.remedy}", lambda text: text)
            for suggestion in error.details.get("suggestions", ()):
                self.stderr.write(f"  {suggestion}", lambda text: text)
            sys.exit(1)
