"""What lies in a folder: sources in Neuronpedia's export layout, and batches of SAEDashboard's Neuronpedia runner."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from features.imports.lines import BadFile, Place, document, objects, whole
from inference.errors import NotFound

NEURONPEDIA, SAEDASHBOARD = "neuronpedia", "saedashboard"
KINDS = ("features", "activations", "silent", "explanations")
_LINES = re.compile(r".+\.jsonl(\.gz)?")
_BATCH = re.compile(r"batch-(\d+)\.json")
_SOURCE = re.compile(r"(\d+)-([A-Za-z0-9_-]+)")
_NUMBER = re.compile(r"\d+")


class _Batch(msgspec.Struct):
    """What a batch of SAEDashboard says of its dictionary."""

    layer: int
    model_id: str = ""
    sae_set: str = ""
    sae_id_suffix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file to read; `name` is its path below what is imported."""

    path: Path
    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSource:
    """One source: its ids in the files, its files in order, and what its small files say of it.

    `n_prompts` and `n_tokens` (of a prompt) are 0 where nothing says them, `n_features` None; `skipped` lists features
    that were left out on purpose. `own` is what another Facet wrote beside the layout.
    """

    layout: str
    model_id: str
    source_id: str
    files: tuple[InputFile, ...]
    n_prompts: int = 0
    n_tokens: int = 0
    n_features: int | None = None
    n_layers: int = 0
    d_in: int = 0
    hook_name: str = ""
    architecture: str = ""
    dataset: str = ""
    release: str = ""
    release_name: str = ""
    release_url: str = ""
    skipped: tuple[int, ...] = ()
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> int:
        match = _SOURCE.fullmatch(self.source_id)
        return int(match[1]) if match else 0


def find_sources(root: Path) -> list[FoundSource]:
    """Return every source at or below a folder, in the order of their paths; raise NotFound and BadFile."""
    found: list[FoundSource] = []
    for folder, children, files in os.walk(root):
        children.sort()
        here = Path(folder)
        if "source.jsonl" in files or any(_jsonl(here / kind) for kind in ("features", "activations")):
            found.append(_neuronpedia(here, root))
            children.clear()
        elif any(_BATCH.fullmatch(name) for name in files):
            found.append(_saedashboard(here, root))
            children.clear()
    if not found:
        raise NotFound(
            f"Nothing to import lies in {root}.",
            "Name a folder of Neuronpedia's export (with features/ and activations/) or of SAEDashboard's batches.",
            path=str(root),
        )
    return found


def _neuronpedia(folder: Path, root: Path) -> FoundSource:
    source = _metadata(folder, "source", root, of=folder.name)
    release, model = _metadata(folder, "release", root), _metadata(folder, "model", root)
    config = source.get("saelensConfig")
    if isinstance(config, str):
        config = _json_of(config)
    config = config if isinstance(config, dict) else {}
    place = Place(f"{_below(folder, root)}/source.jsonl", 1)
    urls = release.get("urls")
    own_file = folder / "facet.json"
    return FoundSource(
        layout=NEURONPEDIA,
        model_id=_text(source, "modelId") or _text(model, "id") or folder.parent.name,
        source_id=_text(source, "id") or folder.name,
        files=tuple(_input_files(folder, root)),
        n_prompts=_count(place, source, "num_prompts") or 0,
        n_tokens=_count(place, source, "num_tokens_in_prompt") or 0,
        n_features=_count(place, config, "d_sae"),
        n_layers=_count(Place(f"{_below(folder, root)}/model.jsonl", 1), model, "layers") or 0,
        d_in=_count(place, config, "d_in") or 0,
        hook_name=_text(config, "hook_name") or _text(config.get("metadata") or {}, "hook_name"),
        architecture=_text(config, "architecture"),
        dataset=_text(source, "dataset"),
        release=_text(release, "name"),
        release_name=_text(release, "descriptionShort") or _text(release, "description"),
        release_url=urls[0] if isinstance(urls, list) and urls and isinstance(urls[0], str) else "",
        own=document(own_file, f"{_below(folder, root)}/facet.json") if own_file.is_file() else {},
    )


def _saedashboard(folder: Path, root: Path) -> FoundSource:
    settings = _optional(folder / "run_settings.json", root)
    skipped = _optional(folder / "skipped_indexes.json", root)
    names = sorted((p for p in folder.iterdir() if _BATCH.fullmatch(p.name)), key=_natural)
    first = whole(names[0], _below(names[0], root), _Batch)
    place = Place(_below(names[0], root), 1)
    name = first.sae_set or _text(settings, "np_set_name") or _text(settings, "sae_set")
    words = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "sae"
    indices = skipped.get("skipped_indexes") or []
    if not all(isinstance(index, int) for index in indices):
        raise Place(_below(folder / "skipped_indexes.json", root), 1).wrong("skipped_indexes are not numbers")
    return FoundSource(
        layout=SAEDASHBOARD,
        model_id=first.model_id or _text(settings, "model_id") or "model",
        source_id=f"{first.layer}-{words}{f'__{first.sae_id_suffix}' if first.sae_id_suffix else ''}",
        files=tuple(InputFile(path=path, name=_below(path, root), kind="batch") for path in names),
        n_prompts=_count(place, settings, "n_prompts_total") or 0,
        n_tokens=_count(place, settings, "n_tokens_in_prompt") or 0,
        dataset=_text(settings, "huggingface_dataset_path"),
        skipped=tuple(indices),
    )


def _input_files(folder: Path, root: Path) -> Iterator[InputFile]:
    for kind in KINDS:
        for path in _jsonl(folder / kind):
            yield InputFile(path=path, name=_below(path, root), kind=kind)


def _jsonl(folder: Path) -> list[Path]:
    """Return the files of lines in a folder, batch-2 before batch-10; a file beside its gzipped twin counts once."""
    if not folder.is_dir():
        return []
    files = [path for path in folder.iterdir() if _LINES.fullmatch(path.name) and path.is_file()]
    names = {path.name for path in files}
    return sorted((path for path in files if f"{path.name}.gz" not in names), key=_natural)


def _metadata(folder: Path, name: str, root: Path, *, of: str = "") -> dict[str, Any]:
    """Return the line of a small file: the one whose id is `of`, else the first; empty where there is no file."""
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            rows = list(objects(path, _below(path, root)))
            return next((row for row in rows if of and row.get("id") == of), rows[0] if rows else {})
    return {}


def _optional(path: Path, root: Path) -> dict[str, Any]:
    return document(path, _below(path, root)) if path.is_file() else {}


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _text(fields: Any, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _count(place: Place, fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise place.wrong(f"{name} is {value!r}, not a number of things")
    return value


def _below(path: Path, root: Path) -> str:
    relative = path.relative_to(root).as_posix()
    return relative if relative != "." else path.name


def _natural(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in _NUMBER.findall(path.name)], path.name


__all__ = ["KINDS", "NEURONPEDIA", "SAEDASHBOARD", "BadFile", "FoundSource", "InputFile", "find_sources"]
