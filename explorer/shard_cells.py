"""The shards of a build as a strip of cells: filled as far as they are made, outlined while somebody is at them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from django.utils.safestring import SafeString, mark_safe

from explorer.figures import compact
from features.run_results import ShardCard

COLUMNS = 48
CELL, STEP = 10, 12
# Pixels of a unit, where there is room.
SCALE = 1.16


def shard_cells(shards: Sequence[ShardCard]) -> SafeString:
    """Draw the shards in order, each with what it is as its title."""
    columns = min(COLUMNS, len(shards))
    rows = -(-len(shards) // columns)
    cells = "".join(_cell(shard, place % columns, place // columns) for place, shard in enumerate(shards))
    width, height = columns * STEP - STEP + CELL + 2, rows * STEP - STEP + CELL + 2
    return mark_safe(
        f'<svg class="shard-cells" viewBox="-1 -1 {width} {height}" width="{round(SCALE * width)}"'
        f' aria-hidden="true">{cells}</svg>'
    )


def _cell(shard: ShardCard, column: int, row: int) -> str:
    x, y = column * STEP, row * STEP
    kind = shard.state.replace(" ", "-")
    part = ""
    if shard.state == "in work" and shard.n_tokens:
        height = round(CELL * shard.done / shard.n_tokens, 1)
        part = f'<rect class="part" x="{x}" y="{y + CELL - height}" width="{CELL}" height="{height}"/>'
    return (
        f'<g><title>{escape(_said(shard))}</title><rect class="{kind}" x="{x}" y="{y}" width="{CELL}"'
        f' height="{CELL}" rx="2"/>{part}</g>'
    )


def _said(shard: ShardCard) -> str:
    said = f"shard {shard.number + 1}: {shard.state}"
    if shard.worker:
        said += f" by {shard.worker}" if shard.state == "made" else f", {shard.worker}"
    if shard.state == "in work":
        said += f", {compact(shard.done)} of {compact(shard.n_tokens)} tokens"
    if shard.failures:
        said += f"; failed {len(shard.failures)} times"
    return said
