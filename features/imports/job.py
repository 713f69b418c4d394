"""An import from start to end. Readers see the old dashboards until the new ones are complete."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from features import services
from features.imports.ahead import Ahead
from features.imports.contexts import NO_DATASET, Contexts
from features.imports.explanation_lines import PREFIX
from features.imports.features_on_disk import FeatureTable
from features.imports.figures import LOG_EDGES_E
from features.imports.finding import FoundSource, find_sources
from features.imports.lines import BadFile
from features.imports.merging import Merged
from features.imports.places import folder_of
from features.imports.pulse import Pulse
from features.imports.readers import available, read_all
from features.imports.shards import Counts, Shard
from features.imports.told import MethodRows, report
from features.imports.vocabulary import tokens_of
from features.jobs import Reporter, Watcher, carry_out, silent
from features.models import Dictionary, Explanation, LanguageModel, Run, Tokenization
from features.rows import Chunk
from features.selectors.sources import DENSE
from features.services.imports import NewSource
from features.services.models import checked_slug
from features.words import slugify
from inference.errors import NotFound

# What differs from one built by Facet, said on the pages of imported dictionaries.
ESTIMATED = ("moments", "bands", "histogram of activations")
FROM_EXAMPLES = ("peak tokens", "token entropy")
# Chunks of examples that are made while Postgres indexes the contexts: some 250 kB each.
EXAMPLES_AHEAD = 64
UNKNOWN = ("contexts in which a feature fires", "co-firing features", "explained variance")


def run_import(run_id: int, *, watch: Watcher = silent) -> None:
    """Carry an import out, from the files that an earlier attempt has read (features.jobs)."""
    # What was there before stays: going through all of Django and torch again and again would take a tenth of the time.
    gc.freeze()
    try:
        carry_out(run_id, _import, watch=watch)
    finally:
        gc.unfreeze()


def _import(run: Run, reporter: Reporter) -> None:
    workdir = Path(settings.FACET_BUILDS) / f"run-{run.pk}"
    workdir.mkdir(parents=True, exist_ok=True)
    place = run.params["place"]
    root = folder_of(place, workdir, lambda done, total: reporter.at("fetch", done, total, "bytes"))
    found = find_sources(root)
    if wanted := run.params.get("source"):
        names = [source.source_id for source in found]
        found = [source for source in found if source.source_id == wanted]
        if not found:
            raise NotFound(f"{place} holds no source {wanted!r}.", "Choose one that it holds.", suggestions=names[:20])
    results = [
        _import_source(run, source, workdir / f"source-{number}", reporter) for number, source in enumerate(found)
    ]
    services.runs.record(run=run.pk, result={"links": [result["link"] for result in results], "imported": results})
    shutil.rmtree(workdir, ignore_errors=True)


def _import_source(run: Run, found: FoundSource, workdir: Path, reporter: Reporter) -> dict[str, Any]:
    """Import one source, unless an earlier attempt of this run has published it; return what there is to tell."""
    done = workdir / "done.json"
    if done.is_file():
        return json.loads(done.read_text())
    workdir.mkdir(parents=True, exist_ok=True)
    shards = _read(found, workdir, reporter)
    counts = Counts()
    for shard in shards:
        counts.add(shard.counts)
    result = _store(run, found, shards, counts, workdir, reporter)
    for line in report(result, counts):
        reporter.say(line)
    done.write_text(json.dumps(result))
    return result


def _read(found: FoundSource, workdir: Path, reporter: Reporter) -> list[Shard]:
    total = sum(file.path.stat().st_size for file in found.files)
    return read_all(
        found.files,
        workdir,
        n_processes=settings.FACET_THREADS or available(),
        tell=lambda done: reporter.at("read", done, total, "bytes"),
        should_stop=reporter.should_stop,
    )


def _store(
    run: Run, found: FoundSource, shards: list[Shard], counts: Counts, workdir: Path, reporter: Reporter
) -> dict[str, Any]:
    # Reading may have taken longer than a connection may live.
    if not connection.in_atomic_block:
        close_old_connections()
    table = FeatureTable(shards, workdir, counts)
    _check(found, table, counts)
    slug = run.params.get("model") or slugify(found.model_id)[:80]
    n_layers = max(found.n_layers, found.layer + 1)
    model = services.imports.model_for(slug=checked_slug(slug), name=found.model_id, n_layers=n_layers)
    dictionary = services.imports.dictionary_for(model=model.pk, new=_described(found, table, shards))
    services.runs.claim(run=run.pk, dictionary=dictionary.pk)
    old = dictionary.tokenization_id

    contexts = Contexts(workdir=workdir)
    contexts.gather(shards)
    tokens = tokens_of(model, contexts.strings() | table.strings())
    contexts.write_ids(tokens.of)
    examples = Merged(contexts, table, counts)
    with Ahead(examples.chunks(), most=EXAMPLES_AHEAD) as made:
        tokenization = _store_contexts(found, model, dictionary, contexts, tokens.of, reporter)
        reporter.at("examples", 0, table.size, "features")
        with Pulse(run.pk, "examples", table.size, "features") as pulse:
            services.imports.store_examples(dictionary=dictionary.pk, chunks=_watched(made, pulse))
    n_tokens = table.n_tokens(_n_tokens(found, shards))
    reporter.at("features", 0, len(table), "features")
    with Pulse(run.pk, "features", len(table), "features") as pulse:
        chunks = table.chunks(tokens.of, n_tokens, pulse)
        services.imports.store_features(dictionary=dictionary.pk, chunks=chunks)

    reporter.at("publish", 0, 1, "dictionaries")
    stats = _stats(run, found, table, tokenization, n_tokens, dictionary)
    explanations = _explanations(dictionary, shards, counts)
    services.dashboards.publish(
        tokenization=tokenization, stats={dictionary.pk: stats}, explanations={dictionary.pk: explanations}
    )
    if old is not None and old != tokenization.pk:
        services.imports.forget(tokenization=old)
    reporter.at("publish", 1, 1, "dictionaries")
    return {
        "link": f"/{model.slug}/{dictionary.source}",
        "features": len(table),
        "of_features": dictionary.n_features,
        "skipped": len(found.skipped),
        "examples": examples.n,
        "contexts": len(contexts),
        "explanations": counts.rows["explanations"],
        "unknown_tokens": list(tokens.unknown[:20]),
        "n_unknown_tokens": len(tokens.unknown),
        "n_tokens": n_tokens,
    }


def _watched(chunks: Iterable[tuple[int, Chunk]], pulse: Pulse) -> Iterator[Chunk]:
    for done, chunk in chunks:
        yield chunk
        pulse(done)


def _check(found: FoundSource, table: FeatureTable, counts: Counts) -> None:
    """Raise BadFile where the files hold no features, or not as many rows as they say."""
    if not len(table):
        raise BadFile(
            f"The files of {found.source_id} describe no feature.",
            "An export has features/batch-0.jsonl.gz; SAEDashboard's batches hold features.",
            source=found.source_id,
        )
    if found.n_features is not None and table.size > found.n_features:
        raise BadFile(
            f"The files of {found.source_id} hold feature {table.size - 1:,}, but its source.jsonl says that it has"
            f" {found.n_features:,} features.",
            "These files do not belong together. Fetch them again.",
            source=found.source_id,
        )

    told = found.own.get("counts")
    if not isinstance(told, dict):
        return
    here = {
        "features": counts.rows["features"],
        "activations": counts.rows["activations"] - counts.rows["silent"],
        "silent": counts.rows["silent"],
        "explanations": counts.rows["explanations"],
    }
    for name, n in here.items():
        if told.get(name, 0) != n:
            raise BadFile(
                f"The files of {found.source_id} hold {n:,} {name}, but its facet.json says {told.get(name, 0)!r}.",
                "A file is missing or was cut. Copy the whole folder again, then resume the run.",
                source=found.source_id,
            )


def _described(found: FoundSource, table: FeatureTable, shards: list[Shard]) -> NewSource:
    facts: dict[str, Any] = {}
    for shard in shards:
        facts = shard.facts | facts
    hook_point = found.hook_name or str(facts.get("hookName") or "")
    return NewSource(
        source=services.dictionaries.checked_source(found.source_id),
        layer=found.layer,
        n_features=max(found.n_features or 0, table.size, max(found.skipped, default=-1) + 1),
        d_in=found.d_in or int(facts.get("d_in") or 0),
        hook_point=hook_point or "not said",
        hook_point_out=str(found.own.get("hook_point_out") or ""),
        architecture=found.architecture,
        release=found.release,
        release_name=found.release_name,
        release_url=found.release_url,
    )


def _store_contexts(
    found: FoundSource,
    model: LanguageModel,
    dictionary: Dictionary,
    contexts: Contexts,
    tokens: Mapping[str, Any],
    reporter: Reporter,
) -> Tokenization:
    dataset = found.dataset or NO_DATASET
    reporter.at("contexts", 0, len(contexts), "contexts")
    with Pulse(reporter.run_id, "contexts", len(contexts), "contexts") as pulse:
        chunks = contexts.chunks(tokens, model.d_vocab, dataset=dataset, progress=pulse)
        return _stored(found, model, dictionary, contexts, chunks, dataset)


def _stored(
    found: FoundSource, model: LanguageModel, dictionary: Dictionary, contexts: Contexts, chunks: Any, dataset: str
) -> Tokenization:
    return services.imports.store_contexts(
        corpus_slug=services.imports.corpus_slug(model.slug, dictionary.source),
        corpus_name=f"{dataset}, imported with {model.slug}/{dictionary.source}"[:200],
        model=model.pk,
        context_size=contexts.longest,
        n_tokens=contexts.n_tokens,
        n_contexts=len(contexts),
        has_bos=contexts.has_bos,
        digest=contexts.digest,
        chunks=chunks,
        documents=contexts.documents,
    )


def _stats(
    run: Run,
    found: FoundSource,
    table: FeatureTable,
    tokenization: Tokenization,
    n_tokens: int,
    dictionary: Dictionary,
) -> dict[str, Any]:
    fraction_f = table.fraction_f[table.is_there_f]
    stats: dict[str, Any] = {
        "n_tokens": n_tokens,
        "n_contexts": found.n_prompts or tokenization.n_contexts,
        "l0_mean": round(float(fraction_f.sum()), 3),
        "l0_median": None,
        "l0_p90": None,
        "explained_variance": None,
        "mean_squared_error": None,
        "dead": int((fraction_f == 0).sum()),
        "dense": int((fraction_f > DENSE).sum()),
        "log_edges": LOG_EDGES_E.tolist(),
        "densities": services.dashboards.densities(fraction_f[fraction_f > 0]),
        "co_firing_exact": False,
        "co_firing_measure": "correlation" if table.has_correlations else "jaccard",
        "provenance": {"context_size": tokenization.context_size, "excluded": "as the files have it"},
    }
    stats |= dict(found.own.get("stats") or {})
    notes = () if found.own else (ESTIMATED, FROM_EXAMPLES, UNKNOWN)
    return stats | {
        "run": run.pk,
        "imported": {
            "layout": found.layout,
            "from": run.params["place"],
            "dataset": found.dataset,
            "missing": dictionary.n_features - len(table),
            "notes": [list(note) for note in notes],
        },
    }


def _explanations(dictionary: Dictionary, shards: list[Shard], counts: Counts) -> dict[str, Any]:
    """Return what each method says; methods of an earlier import that say nothing any more say nothing."""
    methods: dict[str, Any] = MethodRows.of_all(shards, counts, dictionary.n_features)
    old = Explanation.objects.filter(dictionary=dictionary, author=None, method__startswith=PREFIX)
    return dict.fromkeys(old.values_list("method", flat=True).distinct(), ()) | methods


def _n_tokens(found: FoundSource, shards: list[Shard]) -> int:
    """Return how many tokens were read to make the files, as they say; 0 where they do not."""
    own = (found.own.get("stats") or {}).get("n_tokens")
    if isinstance(own, int):
        return own
    if found.n_prompts and found.n_tokens:
        return found.n_prompts * found.n_tokens
    for shard in shards:
        prompts, tokens = (shard.facts.get(key) for key in ("n_prompts_total", "n_tokens_in_prompt"))
        if isinstance(prompts, int) and isinstance(tokens, int):
            return prompts * tokens
    return 0
