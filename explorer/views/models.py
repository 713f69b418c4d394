"""One language model: its dictionaries by layer and site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from features import selectors
from features.results import SourceCard

# The order of a forward pass inside a block.
SITES = (
    "hook_resid_pre",
    "ln1.hook_normalized",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_in",
    "ln2.hook_normalized",
    "mlp.hook_post",
    "hook_mlp_out",
    "hook_resid_post",
)


@require_safe
def model(request: HttpRequest, model: str) -> HttpResponse:
    """Show a model and where its dictionaries read."""
    page = selectors.model_page(model)
    sites, layers = layer_map(page.sources)
    return render(
        request,
        "model.html",
        {
            "model": page.model,
            "sources": page.sources,
            "sites": sites,
            "layers": layers,
            "crumbs": [(page.model.slug, "")],
            "tool_query": f"model={page.model.slug}",
        },
    )


def layer_map(cards: Sequence[SourceCard]) -> tuple[list[str], list[tuple[int, list[tuple[str, list[SourceCard]]]]]]:
    """Return the sites that occur, in the order of a forward pass, and per layer each site with its dictionaries."""
    cells: dict[tuple[int, str], list[SourceCard]] = defaultdict(list)
    for card in cards:
        cells[card.layer, _site(card.hook_point)].append(card)
    sites = sorted({site for _, site in cells}, key=lambda site: (SITES.index(site) if site in SITES else 99, site))
    depths = sorted({layer for layer, _ in cells})
    return sites, [(layer, [(site, cells.get((layer, site), [])) for site in sites]) for layer in depths]


def _site(hook_point: str) -> str:
    """Return a hook point without its block: hook_resid_post of blocks.2.hook_resid_post, with + if others follow."""
    first, joined, _ = hook_point.partition("+")
    first = first.rpartition("/")[2]
    parts = first.split(".")
    return (".".join(parts[2:]) if parts[0] == "blocks" and len(parts) > 2 else first) + joined
