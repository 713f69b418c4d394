"""Additions: from a stored run to registered models, dictionaries and text. Only models need torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

from django.conf import settings

from features import services
from features.jobs import Reporter, Watcher, carry_out, silent
from features.looks.corpora import corpus_files
from features.looks.dictionaries import patterns_of
from features.looks.models import FILES
from features.models import Run
from features.services.corpora import NewDocument
from features.texts import Skips, documents_in, documents_of
from features.texts.finding import HUB
from inference.dashboards.corpus import Cancelled
from inference.dictionaries import hub
from inference.errors import FacetError, InvalidInput

MODEL = "model"
DICTIONARIES = "dictionaries"
CORPUS = "corpus"
DOWNLOAD = "download"


def run_addition(run_id: int, *, watch: Watcher = silent) -> None:
    """Add what a run names (features.jobs).

    Each thing is added in a transaction of its own and adding it again changes nothing, so a run that is taken up
    again goes on where it stopped.
    """
    carry_out(run_id, lambda run, reporter: _JOBS[run.params["what"]](run, reporter), watch=watch)


def _add_model(run: Run, reporter: Reporter) -> None:
    from features.loading import read_model

    path, revision = run.params["path"], run.params["revision"] or None
    if hub.is_hub_id(path):
        name, _, commit = path.partition("@")
        revision = commit or revision
        wanted = f"{name}@{revision}" if revision else name
        if hub.cached(wanted, of=FILES) is None:
            download = hub.plan(wanted, several=True, of=FILES)
            revision = download.revision
            _fetch(download, reporter)
        path = name
    reporter.at("load", 0, 1, "models")
    facts = read_model(path, revision=revision)
    reporter.at("store", 0, len(facts.vocabulary), "tokens")
    row = services.models.add_model(facts=facts, slug=run.params["slug"], description=run.params["description"])
    reporter.tell("store", len(facts.vocabulary), len(facts.vocabulary), "tokens")
    reporter.say(f"{row.slug}: {row.family}, {row.n_layers} layers, width {row.d_model}.")
    services.runs.record(run=run.pk, result={"links": [f"/{row.slug}"]})


def _add_dictionaries(run: Run, reporter: Reporter) -> None:
    sources, model = run.params["sources"], run.params["model"]
    links: list[str] = []
    problems: list[FacetError] = []
    for number, (path, source) in enumerate(sources.items()):
        reporter.at("read", number, len(sources), "dictionaries")
        place = _here(path, reporter)
        try:
            row = services.dictionaries.add_dictionary(
                path=place, model=model, source=source, release=run.params["release"]
            )
        except FacetError as error:
            # The others are added all the same; what went wrong is the end of the run.
            reporter.say(f"{path}: {error.cause} {error.remedy}")
            problems.append(error)
            continue
        reporter.say(f"{model}/{row.source}: {row.architecture}, {row.n_features:,} features at {row.hook_point}.")
        links.append(f"/{model}/{row.source}")
        services.runs.record(run=run.pk, result={"links": links})
    if problems:
        raise _several(problems, len(sources))
    reporter.at("read", len(sources), len(sources), "dictionaries")


def _add_corpus(run: Run, reporter: Reporter) -> None:
    path, glob, field = (run.params[name] for name in ("path", "glob", "field"))
    skips, copies_at = Skips(), Path(settings.FACET_CORPORA)
    if path.startswith(HUB):
        reporter.say(f"Copying at most {run.params['limit']:,} documents of {path.removeprefix(HUB)}.")
        limit = run.params["limit"]

        def told(n_rows: int) -> None:
            reporter.at("copy", n_rows, limit, "documents")

        found = documents_of(path, skips=skips, field=field, limit=limit, copies_at=copies_at, told=told)
        documents = _counted(found, reporter)
    else:
        here = Path(path)
        files = corpus_files(here, glob)
        root = here if here.is_dir() else here.parent
        documents = documents_in(_told(files, reporter), root, skips=skips, field=field, copies_at=copies_at)
    corpus = services.corpora.add_corpus(
        name=run.params["name"],
        documents=documents,
        description=run.params["description"],
        origin={"place": path, "glob": glob, "field": field},
        skips=skips,
    )
    n_documents = corpus.documents.count()
    reporter.tell("read", n_documents, n_documents, "documents")
    reporter.say(f"{corpus.slug}: {n_documents:,} documents." + (f" Left out: {skips}." if skips.counts else ""))
    services.runs.record(run=run.pk, result={"links": [f"/corpora/{corpus.slug}"]})


def _told(files: Sequence[Path], reporter: Reporter) -> Iterator[Path]:
    """Yield the files, reporting each; raise Cancelled if the run is to stop."""
    for number, path in enumerate(files):
        reporter.at("read", number, len(files), "files")
        yield path


def _counted(documents: Iterable[NewDocument], reporter: Reporter) -> Iterator[NewDocument]:
    """Yield documents of which nobody knows how many there are."""
    for number, document in enumerate(documents):
        reporter.at("read", number, number + 1, "documents")
        yield document


def _download(run: Run, reporter: Reporter) -> None:
    path, match, of = run.params["path"], run.params["match"], run.params["of"]
    is_model = of == MODEL
    patterns = FILES if is_model else patterns_of(match)
    place = hub.cached(path, of=patterns)
    if place is None:
        place = _fetch(hub.plan(path, several=is_model or bool(match), of=patterns), reporter)
    query = {"path": path if is_model else str(place), "match": match, "model": run.params["model"]}
    address = "/add/model" if is_model else "/add/dictionary"
    link = f"{address}?{urlencode({name: value for name, value in query.items() if value})}"
    services.runs.record(run=run.pk, result={"links": [link]})


def _here(path: str, reporter: Reporter) -> Path:
    """Return a path that exists as it is, and for a hub id the folder it was downloaded to."""
    if not hub.is_hub_id(path):
        return Path(path)
    return hub.cached(path) or _fetch(hub.plan(path), reporter)


def _several(problems: list[FacetError], n: int) -> FacetError:
    """Return the error of a run in which some dictionaries could not be added."""
    first = problems[0]
    if n == 1:
        return first
    return InvalidInput(f"{len(problems)} of {n} were not added; the first: {first.cause}", first.remedy)


def _fetch(download: hub.Download, reporter: Reporter) -> Path:
    reporter.say(f"Fetching {len(download.sizes)} files of {download.repo} at {download.revision}.")
    place = hub.fetch(
        download,
        progress=lambda done, total: reporter.tell("download", done, total, "bytes"),
        should_stop=reporter.should_stop,
    )
    if place is None:
        raise Cancelled
    return place


_JOBS = {MODEL: _add_model, DICTIONARIES: _add_dictionaries, CORPUS: _add_corpus, DOWNLOAD: _download}
