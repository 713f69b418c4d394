"""The table of docs/models.md, made from the registry; `python -m tests.inference.models_document` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from inference.hook_points import FAMILIES, Family
from tests.inference.lens import NOT_IN_LENS

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
TABLE = re.compile(r"(?<=<!-- families -->\n).*?(?=<!-- end -->)", re.DOTALL)
HEAD = ("`model_type`", "models", "lacks", "has besides", "not done", "compared with")


def table() -> str:
    """Return a row for each family: what it lacks of GPT-2's hook points, what it has besides, and who agrees."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(family) for family in FAMILIES.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _row(family: Family) -> tuple[str, ...]:
    usual = FAMILIES["gpt2"].sites.keys()
    when = "".join(f", `{name}` {str(value).lower()}" for name, value in family.when.items())
    return (
        f"`{family.model_type or family.name}`{when}",
        family.known_as,
        _listed(site for site in usual if site not in family.sites),
        _listed(site for site in family.sites if site not in usual),
        ", ".join(family.gaps),
        "its modules" if family.name in NOT_IN_LENS else "TransformerLens",
    )


def _listed(sites) -> str:
    return ", ".join(f"`{site}`" for site in sites)


if __name__ == "__main__":
    DOCUMENT.write_text(TABLE.sub(lambda _: table(), DOCUMENT.read_text()))
