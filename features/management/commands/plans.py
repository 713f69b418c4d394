"""Write how Postgres answers pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import connection

from features import plans
from features.management.facet_command import FacetCommand
from features.models import Dictionary

_HEAD = """# Plans

How Postgres {version} answers the pages of the largest dictionary of a deployment of {n_features:,} features in
{n_dictionaries} dictionaries. Made by `.venv/bin/python manage.py plans docs/plans.md`. A test checks on a small
deployment that every statement of a dictionary's pages names its own partitions and no others. Where a plan does the
same for every dictionary, the first stands for all. [storage.md](storage.md) says how long pages take.
"""
_PARTITIONED = re.compile(r"features_(?:feature|example|context|posting)\b|features_explanation")


class Command(FacetCommand):
    help = "Write the plans of the statements of pages, as Markdown, to a file or the screen."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", nargs="?", help="the file to write (default: the screen)")

    def handle(self, *, path: str | None, **_: Any) -> None:
        sizes = list(Dictionary.objects.built().values_list("n_features", flat=True))
        pages = plans.pages()
        connection.ensure_connection()
        parts = [_HEAD.format(version=connection.pg_version // 10000, n_features=sum(sizes), n_dictionaries=len(sizes))]
        for name, read in pages.items():
            statements = plans.statements_of(read)
            shown = [statement for statement in statements if _PARTITIONED.search(statement)]
            parts.append(f"## {name}\n\n{len(statements)} statements, of which {len(shown)} read what grows:\n")
            for statement in shown:
                lines = plans.shortened(plans.plan_of(statement, run=True))
                parts.append("```\n" + "\n".join(lines) + "\n```\n")
        text = "\n".join(parts)
        if path is None:
            self.stdout.write(text)
            return
        Path(path).write_text(text, encoding="utf-8")
        self.stdout.write(f"{path}: {len(pages)} pages")
