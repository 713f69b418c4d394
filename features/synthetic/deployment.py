"""Making and removing the rows of a synthetic deployment, a dictionary at a time, in any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context

import django
import numpy as np
from django.db import connection, connections, transaction

from features import partitions, services
from features.models import Corpus, Dictionary, Document, LanguageModel, Release, Tokenization
from features.services.models import ModelFacts
from features.synthetic import text
from features.synthetic.measurements import dashboard
from inference.dashboards.results import ContextTable
from inference.errors import Conflict, InvalidInput, NotFound

NAME = "synthetic"
NOTE = "Made up by `manage.py synthesize` to measure Facet at size. Nothing in it was measured."
WIDTH = 768
MOST_FEATURES = 1 << 20
LEAST_CONTEXTS = 1024
EXAMPLES_PER_CONTEXT = 200
FACTS = {"provenance": {"model_revision": NAME, "precision": "none: made up", "excluded": "BOS"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make: `explained` is the share of features with an explanation. Raises InvalidInput for odd sizes."""

    n_features: int
    n_examples: int
    n_models: int = 1
    width: int = 16_384
    explained: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_features, self.n_examples, self.n_models) < 1 or not 1 < self.width <= MOST_FEATURES:
            raise InvalidInput("A deployment needs features, examples and models.", "Give numbers above zero.")
        if self.n_features % self.width == 1:
            raise InvalidInput("The last dictionary would have a single feature.", "Choose another number of features.")
        if not 0 <= self.explained <= 1:
            raise InvalidInput(f"{self.explained} is no share of features.", "Give 0 to 1.")
        if self.per_feature * 2 > self.contexts_per_model:
            raise InvalidInput(
                f"{self.per_feature} examples a feature are more than the contexts allow.", "Ask for fewer examples."
            )

    @property
    def per_feature(self) -> int:
        return max(1, round(self.n_examples / self.n_features))

    @property
    def contexts_per_model(self) -> int:
        return max(LEAST_CONTEXTS, self.n_examples // EXAMPLES_PER_CONTEXT // self.n_models)

    def sizes(self) -> list[int]:
        """Return the features of each dictionary: as many full ones as fit, and the rest in a last one."""
        full, rest = divmod(self.n_features, self.width)
        return [self.width] * full + [rest] * bool(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One dictionary to fill; `model_number` and `number` seed it, the rest are ids of rows that exist."""

    plan: Plan
    model_number: int
    number: int
    dictionary: int
    model: int
    corpus: int


def make(plan: Plan, *, processes: int, done: Callable[[int, int], None] = lambda finished, total: None) -> None:
    """Make the deployment, its dictionaries in `processes` at a time; raise Conflict if there is one already.

    A run that was cut off leaves a part of it, which `remove` removes.
    """
    jobs = _register(plan)
    done(0, len(jobs))
    if processes == 1:
        for finished, job in enumerate(jobs, 1):
            fill(job)
            done(finished, len(jobs))
        return
    connections.close_all()
    # Fresh interpreters: a forked one would share this one's connections to Postgres.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=django.setup) as pool:
        for finished, job in enumerate(as_completed([pool.submit(fill, job) for job in jobs]), 1):
            job.result()
            done(finished, len(jobs))


def fill(job: Job) -> None:
    """Store the contexts of a job's model where nobody has yet, then its dictionary."""
    seed = job.plan.seed + 1000 * job.model_number
    contexts = _contexts(seed, job.plan.contexts_per_model, with_text=False)
    if not Tokenization.objects.filter(model_id=job.model, sha256=contexts.digest).exists():
        whole = _contexts(seed, job.plan.contexts_per_model, with_text=True)
        # Whoever comes second waits for the first at the row of the corpus.
        services.dashboards.store_contexts(
            corpus=job.corpus, model=job.model, context_size=text.CONTEXT_SIZE, contexts=whole
        )
        _contexts.cache_clear()
    row = Dictionary.objects.get(id=job.dictionary)
    made = dashboard(
        source=row.source,
        seed=seed,
        dictionary=job.number,
        n_features=row.n_features,
        per_feature=job.plan.per_feature,
        contexts=contexts,
    )
    alive_n = np.flatnonzero(made.firing_count_f)
    explained = alive_n[np.random.default_rng([seed, 4, job.number]).random(len(alive_n)) < job.plan.explained]
    services.dashboards.attach(
        corpus=job.corpus,
        model=job.model,
        context_size=text.CONTEXT_SIZE,
        contexts=contexts,
        dashboards={row.pk: made},
        explanations={
            row.pk: {text.METHOD: list(text.explanations(seed=seed, dictionary=job.number, explained=explained))}
        },
        facts=FACTS,
    )


def remove() -> int:
    """Remove every synthetic dictionary, model and text; return how many dictionaries. Raises NotFound."""
    release = Release.objects.filter(slug=NAME).first()
    if release is None:
        raise NotFound("There is no synthetic deployment.", "Make one: python manage.py synthesize.")
    ids = list(release.dictionaries.order_by("id").values_list("id", flat=True))
    with connection.cursor() as cursor:
        for dictionary in ids:
            with transaction.atomic():
                cursor.execute(
                    "DELETE FROM features_vote v USING features_explanation e"
                    " WHERE v.explanation_id = e.id AND e.dictionary_id = %s",
                    [dictionary],
                )
                cursor.execute("DELETE FROM features_explanation WHERE dictionary_id = %s", [dictionary])
                services.dictionaries.remove_dictionary(dictionary=dictionary)
    with transaction.atomic():
        for tokenization in Tokenization.objects.filter(corpus__slug=NAME):
            partitions.drop(partitions.contexts_of(tokenization.pk))
            tokenization.delete()
        Corpus.objects.filter(slug=NAME).delete()
        LanguageModel.objects.filter(sha256__startswith=f"{NAME} ").delete()
        release.delete()
    return len(ids)


@transaction.atomic
def _register(plan: Plan) -> list[Job]:
    """Write what the jobs refer to."""
    if Release.objects.filter(slug=NAME).exists():
        raise Conflict(
            "There is a synthetic deployment already.", "Remove it first: python manage.py synthesize --remove."
        )
    release = Release.objects.create(slug=NAME, name="Synthetic", description=NOTE)
    corpus = _corpus(plan)
    sizes = plan.sizes()
    layers = -(-len(sizes) // plan.n_models)
    models = [_model(number, layers) for number in range(plan.n_models)]
    jobs = []
    for number, n_features in enumerate(sizes):
        of_model, layer = divmod(number, layers)
        hook = f"blocks.{layer}.hook_resid_post"
        row = Dictionary.objects.create(
            model=models[of_model],
            release=release,
            source=f"{layer}-{NAME}",
            layer=layer,
            hook_point=hook,
            hook_point_out=hook,
            architecture="topk",
            n_features=n_features,
            d_in=WIDTH,
            d_out=WIDTH,
            k=32,
            path=f"{NAME}/{number}",
            sha256=hashlib.sha256(f"{NAME} {plan.seed} {number}".encode()).hexdigest(),
            format=NAME,
        )
        jobs.append(
            Job(
                plan=plan,
                model_number=of_model,
                number=number,
                dictionary=row.pk,
                model=models[of_model].pk,
                corpus=corpus.pk,
            )
        )
    return jobs


def _corpus(plan: Plan) -> Corpus:
    corpus = Corpus.objects.create(slug=NAME, name="Synthetic text", description=NOTE)
    n_documents = -(-plan.contexts_per_model // text.CONTEXTS_PER_DOCUMENT)
    Document.objects.bulk_create(
        (
            Document(
                corpus=corpus,
                ordinal=ordinal,
                name=f"{NAME}/{ordinal // 100:04d}/{ordinal:06d}.txt",
                path="",
                split="test" if ordinal % 100 < text.TEST_PERCENT else "train",
                sha256="",
                n_bytes=0,
            )
            for ordinal in range(n_documents)
        ),
        batch_size=2000,
    )
    return corpus


def _model(number: int, n_layers: int) -> LanguageModel:
    facts = ModelFacts(
        path=NAME,
        revision=NAME,
        sha256=f"{NAME} {number}",
        family=NAME,
        n_layers=n_layers,
        n_heads=12,
        d_model=WIDTH,
        d_head=WIDTH // 12,
        d_mlp=4 * WIDTH,
        d_vocab=text.N_VOCABULARY,
        context_size=text.CONTEXT_SIZE,
        vocabulary=text.vocabulary(),
        config={},
    )
    return services.models.add_model(
        facts=facts, slug=f"{NAME}-{number + 1}", name=f"Synthetic {number + 1}", description=NOTE
    )


@lru_cache(maxsize=2)
def _contexts(seed: int, n_contexts: int, *, with_text: bool) -> ContextTable:
    return text.contexts(seed=seed, n_contexts=n_contexts, with_text=with_text)


def described(plan: Plan) -> Iterator[str]:
    """Yield what the plan will make, a line each."""
    sizes = plan.sizes()
    yield f"{plan.n_features:,} features in {len(sizes)} dictionaries of {plan.n_models} models"
    yield f"{plan.n_features * plan.per_feature:,} examples at most, {plan.per_feature} of every feature that fires"
    yield f"{plan.n_models * plan.contexts_per_model:,} contexts of {text.CONTEXT_SIZE} tokens"
