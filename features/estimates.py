"""What a build will take, measured on builds that this deployment has finished: time, memory and disk.

Time is that of the nearest measured build, scaled by the tokens and by the multiplications for each of them: two for
every weight of the models that a token passes, and of the dictionaries. It says which build it stands on. Memory is
that of the process and its weights and what inference.dashboards.budget grants each dictionary, within the same budget.
Models that dictionaries compare with their own run beside it and count in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from django.conf import settings
from django.db import connection

from features import partitions
from features.models import Dictionary, LanguageModel
from features.services.runs import check_tokens
from inference.dashboards.budget import disk_bytes, shard_bytes
from inference.errors import InvalidInput
from inference.hook_points import owner_of, parts

FLOAT_BYTES = 4
# What a worker holds before it loads anything (measured).
PROCESS_BYTES = 400_000_000
# Where nothing was built: what a feature of the demonstration's dictionaries takes with all that hangs on it, and the
# contexts of a token, indexes included (benchmarks storage_of_build).
BYTES_PER_FEATURE, BYTES_PER_TOKEN = 4_100, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a build of `n_tokens` tokens is expected to take; `seconds` is None where no build was measured yet.

    `memory_bytes` is what each worker takes at most, of the `budget_bytes` that it may; where `fits` is false the
    largest dictionary alone takes more. `disk_bytes` is stored; `work_bytes` lies under FACET_BUILDS until it is.
    `basis` says what time was reckoned from.
    """

    n_tokens: int
    n_features: int
    seconds: float | None
    memory_bytes: int
    budget_bytes: int
    fits: bool
    disk_bytes: int
    work_bytes: int
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A build that is finished: its rows, what it read and what it took."""

    rows: tuple[Dictionary, ...]
    n_tokens: int
    seconds: float
    device: str
    workers: int


def estimate(*, dictionaries: Sequence[int], n_tokens: int) -> Estimate:
    """Return what a build of dictionaries (ids) of one model would take; raise InvalidInput for none. Three queries."""
    rows = list(Dictionary.objects.filter(id__in=dictionaries).select_related("model"))
    if not rows:
        raise InvalidInput("No dictionary is chosen.", "Choose at least one.")
    check_tokens(n_tokens)
    n_features = sum(row.n_features for row in rows)
    budget = settings.FACET_BUILD_MEMORY
    measured = _measured()
    others = _others([*rows, *(row for build in measured for row in build.rows)])
    base = PROCESS_BYTES + _weights(rows, others)
    shards = [shard_bytes(row.n_features) for row in rows]
    # What does not fit at once goes one after the other.
    room = {
        "work_bytes": disk_bytes([row.n_features for row in rows], n_tokens),
        "memory_bytes": max(base + max(shards), min(budget, base + sum(shards))),
        "budget_bytes": budget,
        "fits": base + max(shards) <= budget,
    }
    if not measured:
        return Estimate(
            n_tokens=n_tokens,
            n_features=n_features,
            seconds=None,
            disk_bytes=n_features * BYTES_PER_FEATURE + n_tokens * BYTES_PER_TOKEN,
            basis="No build was measured here yet, so the time is not known.",
            **room,
        )
    work = _work(rows, others)
    nearest = min(measured, key=lambda build: abs(log(work / _work(build.rows, others))))
    scale = work / _work(nearest.rows, others) * n_tokens / nearest.n_tokens
    names = ", ".join(row.source for row in nearest.rows)
    per_feature, per_token = _bytes_stored(nearest)
    return Estimate(
        n_tokens=n_tokens,
        n_features=n_features,
        seconds=nearest.seconds * scale,
        disk_bytes=round(n_features * per_feature + n_tokens * per_token),
        basis=f"Reckoned from the build of {nearest.rows[0].model.slug}: {names}, {nearest.n_tokens:,} tokens in"
        f" {nearest.seconds:,.0f} s on {nearest.device}, {nearest.workers} worker{'s' if nearest.workers > 1 else ''}.",
        **room,
    )


def _measured() -> list[_Measured]:
    """Return the finished builds whose dictionaries still show them."""
    builds: dict[object, list[Dictionary]] = {}
    for row in Dictionary.objects.filter(built_at__isnull=False, stats__has_key="measurements").select_related("model"):
        builds.setdefault(row.stats.get("run"), []).append(row)
    return [
        _Measured(
            rows=tuple(rows),
            n_tokens=rows[0].stats["n_tokens"],
            seconds=measurements["seconds"],
            device=measurements.get("device", "a device not recorded"),
            workers=measurements.get("workers", 1),
        )
        for rows in builds.values()
        if _is_whole(measurements := rows[0].stats["measurements"]) and rows[0].stats.get("n_tokens")
    ]


def _is_whole(measurements: Mapping[str, object]) -> bool:
    """Tell whether a build was measured from its first shard to its last, and not from a resume on."""
    return bool(measurements.get("seconds")) and not measurements.get("resumed_shards")


def _others(rows: Sequence[Dictionary]) -> dict[str, LanguageModel]:
    """Return the models, by slug, that dictionaries read beside their own. One query at most."""
    owners = {owner for row in rows for owner in _owners(row)}
    return {row.slug: row for row in LanguageModel.objects.filter(slug__in=owners)} if owners else {}


def _owners(row: Dictionary) -> set[str]:
    points = (part for point in (row.hook_point, row.hook_point_out) for part in parts(point))
    return {owner_of(part) for part in points} - {"", row.model.slug}


def _models(rows: Sequence[Dictionary], others: Mapping[str, LanguageModel]) -> list[LanguageModel]:
    """Return every model that a build of dictionaries runs."""
    owners = sorted({owner for row in rows for owner in _owners(row)} & others.keys())
    return [rows[0].model, *(others[owner] for owner in owners)]


def _work(rows: Sequence[Dictionary], others: Mapping[str, LanguageModel]) -> float:
    """Return the multiplications for a token, but for a constant factor."""
    return sum(map(_of_model, _models(rows, others))) + sum(row.n_features * (row.d_in + row.d_out) for row in rows)


def _of_model(model: LanguageModel) -> int:
    return model.n_layers * (4 * model.d_model**2 + 2 * model.d_model * model.d_mlp)


def _weights(rows: Sequence[Dictionary], others: Mapping[str, LanguageModel]) -> int:
    models = sum(_of_model(model) + model.d_vocab * model.d_model for model in _models(rows, others))
    return FLOAT_BYTES * (models + sum(row.n_features * (row.d_in + row.d_out) for row in rows))


def _bytes_stored(build: _Measured) -> tuple[float, float]:
    """Return what a build stores for a feature and for a token: its partitions, and its share of what all have."""
    of_feature = (partitions.features_of, partitions.examples_of, partitions.token_features_of)
    own = [of(row.pk).name for row in build.rows for of in of_feature]
    contexts = {partitions.contexts_of(row.tokenization_id).name for row in build.rows if row.tokenization_id}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT (SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) AS name),
                   (SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(%s::text[]) AS name),
                   (pg_total_relation_size('features_posting') + pg_total_relation_size('features_explanation'))::float8
                       / (SELECT greatest(sum(n_features), 1) FROM features_dictionary WHERE built_at IS NOT NULL)
            """,
            [own, sorted(contexts)],
        )
        of_features, of_contexts, shared = cursor.fetchone()
    per_feature = float(of_features or 0) / sum(row.n_features for row in build.rows) + float(shared)
    return per_feature, float(of_contexts or 0) / build.n_tokens
