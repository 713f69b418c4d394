"""Save features or lists as HTML files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from features.exports.pages import feature_page, file_name, list_page
from features.management.facet_command import FacetCommand
from inference.errors import InvalidInput

_FEATURE = re.compile(r"/?([\w-]+)/([\w-]+)/(\d+)")
_LIST = re.compile(r"/?lists/(\d+)")


class Command(FacetCommand):
    help = "Save a feature or a list as one HTML file that works without a server."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", nargs="+", help="MODEL/SOURCE/INDEX, or lists/NUMBER")
        parser.add_argument("--to", default=".", help="the folder to write to (default: this one)")
        parser.add_argument("--base-url", default="", help="where the deployment is, for links to other features")

    def handle(self, *, address: list[str], to: str, base_url: str, **_: Any) -> None:
        folder = Path(to)
        folder.mkdir(parents=True, exist_ok=True)
        for one in address:
            name, html = self._page(one, base_url.rstrip("/"))
            (folder / name).write_text(html, encoding="utf-8")
            self.stdout.write(str(folder / name))

    def _page(self, address: str, base_url: str) -> tuple[str, str]:
        if match := _FEATURE.fullmatch(address):
            model, source, index = match[1], match[2], int(match[3])
            return file_name(model, source, index), feature_page(model, source, index, base_url=base_url)
        if match := _LIST.fullmatch(address):
            return file_name("list", match[1]), list_page(int(match[1]), base_url=base_url)
        raise InvalidInput(f"{address!r} is no feature and no list.", "Write MODEL/SOURCE/INDEX or lists/NUMBER.")
