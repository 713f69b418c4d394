"""Registering the demonstration that the repository ships; see demo/README.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth import get_user_model
from django.db import transaction

from features import services
from features.models import Corpus, Dictionary, LanguageModel, Run
from features.services.corpora import NewDocument
from inference.digests import files_sha256, weights_of
from inference.errors import NotFound

SLUG = "facet-demo"
RELEASE = "facet-demo"
CORPUS = "python-source"
ACCOUNT = "demo"
N_TOKENS = 1_048_576
# A token of Python source is some three characters; what is left over of the last files is not read.
CORPUS_BYTES = 6 * N_TOKENS
# One byte in five is from files that the model was not trained on.
HELD_OUT_EVERY = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFacts:
    """What was set up. `password` is empty unless the account is new; `run` is None where nothing is to be built."""

    model: str
    sources: tuple[str, ...]
    corpus: str
    account: str
    password: str
    run: int | None


def set_up(folder: Path) -> DemoFacts:
    """Register the model, dictionaries, corpus and account of `folder`, and the run that builds what is not built.

    Doing it again changes nothing. Raises NotFound where the weights are missing.
    """
    model = _model(folder / "model")
    paths = sorted(path.parent for path in (folder / "dictionaries").glob("*/cfg.json"))
    if not paths:
        raise NotFound(f"There are no dictionaries in {folder / 'dictionaries'}.", "Train them: python -m demo.train")
    rows = [
        services.dictionaries.add_dictionary(
            path=path, model=model.slug, source=path.name, release=RELEASE, release_name="Facet demonstration"
        )
        for path in paths
    ]
    corpus = Corpus.objects.filter(slug=CORPUS).first() or _corpus()
    return DemoFacts(
        model=model.slug,
        sources=tuple(row.source for row in rows),
        corpus=corpus.slug,
        account=ACCOUNT,
        password=_account(),
        run=_run([row for row in rows if row.built_at is None], corpus),
    )


def _model(folder: Path) -> LanguageModel:
    weights = weights_of(folder)
    if not weights:
        raise NotFound(f"There is no model in {folder}.", "Train it: python -m demo.train")
    known = LanguageModel.objects.filter(slug=SLUG, path=str(folder.resolve())).first()
    if known is not None and known.sha256 == files_sha256(weights):
        return known
    # Reading the vocabulary takes torch, which a second start need not wait for.
    from features.loading import read_model

    return services.models.add_model(
        facts=read_model(folder),
        slug=SLUG,
        name="Facet demonstration",
        description="A small GPT-2 that this project trained on the Python source that comes with Facet's packages.",
    )


def _corpus() -> Corpus:
    from demo.sources import list_sources, read

    found = list_sources()
    train = [source for source in found if source.split == "train"]
    held_out = [source for source in found if source.split != "train"]
    documents: list[NewDocument] = []
    n_bytes = n_held_out = 0
    while n_bytes < CORPUS_BYTES and (train or held_out):
        wants_held_out = n_held_out * HELD_OUT_EVERY <= n_bytes
        source = (held_out if wants_held_out and held_out else train or held_out).pop(0)
        text = read(source)
        if not text:
            continue
        is_train = source.split == "train"
        n_bytes += len(text)
        n_held_out += 0 if is_train else len(text)
        documents.append(NewDocument(name=source.name, path=source.path, split="train" if is_train else "test"))
    return services.corpora.add_corpus(
        name="Python source",
        documents=documents,
        description="The standard library and the packages that this installation of Facet stands on.",
    )


def _account() -> str:
    """Make the account and return its password; an empty one if it is there already."""
    if get_user_model().objects.filter(username=ACCOUNT).exists():
        return ""
    # Staff: on a machine of one's own, its owner may add what lies on it.
    return services.accounts.create(name=ACCOUNT, staff=True)


@transaction.atomic
def _run(unbuilt: list[Dictionary], corpus: Corpus) -> int | None:
    """Return the run that builds the dictionaries: one that is under way, one that failed and is resumed, or a new one.

    A run that was cancelled stays so.
    """
    if not unbuilt:
        return None
    last = Run.objects.filter(dictionaries__in=unbuilt).order_by("-id").first()
    if last is None:
        return services.runs.create_build(
            dictionaries=[row.pk for row in unbuilt], corpus=corpus.slug, n_tokens=N_TOKENS
        )
    if last.state == Run.State.FAILED:
        services.runs.resume(run=last.pk)
        return last.pk
    return last.pk if last.state in Run.ACTIVE else None
