"""A small registered world for live tests: a random model, its dictionaries, and their rows as a build leaves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from django.db import connection
from django.utils import timezone

from features import packed_features
from features.models import Dictionary, Feature, LanguageModel
from inference.dictionaries import read_config
from inference.digests import files_sha256, weights_of
from inference.packing import Lists
from tests.tiny import tiny_dictionary, tiny_model

N_FEATURES = 128
N_TOKENS = 1000
MAXIMUM = 4.0
CONTEXT_SIZE = 256
SOURCES = {"1-res-topk": "blocks.1.hook_resid_post", "2-res-jump": "blocks.2.hook_resid_post"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the model and the dictionaries are."""

    model: Path
    dictionaries: dict[str, Path]


def make_folders(root: Path, *, d_model: int = 32) -> Folders:
    """Write the model and its dictionaries."""
    return Folders(
        model=tiny_model(root, d_model=d_model, context_size=CONTEXT_SIZE),
        dictionaries={
            source: tiny_dictionary(
                root,
                architecture="topk" if "topk" in source else "jumprelu",
                hook_name=hook_name,
                d_in=d_model,
                d_sae=N_FEATURES,
                source=source,
            )
            for source, hook_name in SOURCES.items()
        },
    )


def register(folders: Folders, *, slug: str = "tiny") -> dict[str, Dictionary]:
    """Write the rows; feature i fires on i of N_TOKENS tokens and has the maximum MAXIMUM."""
    sha256 = files_sha256(weights_of(folders.model))
    model = LanguageModel.objects.create(
        slug=slug,
        name=slug,
        path=str(folders.model),
        revision=sha256,
        sha256=sha256,
        family="gpt2",
        n_layers=3,
        n_heads=4,
        d_model=32,
        d_head=8,
        d_mlp=128,
        d_vocab=512,
        context_size=CONTEXT_SIZE,
    )
    return {source: register_dictionary(model, source, folder) for source, folder in folders.dictionaries.items()}


def register_dictionary(model: LanguageModel, source: str, folder: Path) -> Dictionary:
    """Write the rows of one dictionary."""
    config = read_config(folder)
    row = Dictionary.objects.create(
        model=model,
        source=source,
        layer=int(source[0]),
        hook_point=config.hook_in,
        hook_point_out=config.hook_out,
        architecture=config.architecture,
        n_features=config.n_features,
        d_in=config.d_in,
        d_out=config.d_out,
        k=config.k,
        path=str(folder),
        sha256=config.sha256,
        format="saelens",
        built_at=timezone.now(),
        stats={"n_tokens": N_TOKENS, "n_contexts": 10},
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE feature_of_{row.id} PARTITION OF {Feature._meta.db_table} FOR VALUES IN ({row.id})"
        )
    Feature.objects.bulk_create(_feature(row, index) for index in range(row.n_features))
    return row


_NUMBERS = ("firing_count", *packed_features.SUMS, *packed_features.COUNTS, *packed_features.LOGITS)
_NO_ENTRIES = Lists.of([[]], np.int64)
[_PACKED] = packed_features.pack(
    dict.fromkeys(packed_features.PACKED, _NO_ENTRIES) | {name: np.zeros(1) for name in _NUMBERS}
)
# By type of column; the others are numbers.
_EMPTY = {"ArrayField": [], "BinaryField": _PACKED}


def _feature(row: Dictionary, index: int) -> Feature:
    """Return a feature whose columns are empty but for its address, count and maximum."""
    known = {"dictionary_id": row.id, "index": index, "firing_count": index, "maximum": MAXIMUM}
    empty = {
        field.attname: _EMPTY.get(field.get_internal_type(), 0)
        for field in Feature._meta.local_concrete_fields
        if field.attname not in known
    }
    return Feature(**known, **empty)
