"""A whole small site for tests of pages: a random model, two dictionaries, dashboards built from real text, an account.

Everything is made by the services and the build that users run, so it needs torch and takes a few seconds: fixtures
make it once for all tests of a folder.
"""

from __future__ import annotations

import inspect
import json
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.tiny import tiny_dictionary, tiny_model

MODEL = "tiny"
SOURCES = {"1-res-topk": ("blocks.1.hook_resid_post", "topk"), "2-res-jump": ("blocks.2.hook_resid_post", "jumprelu")}
N_TOKENS = 12_000
N_FEATURES = 128
USER, PASSWORD = "ada", "lovelace-1815"
# May add what lies on this machine; has the same password.
STAFF = "grace"
DOCUMENTS = (json.decoder, json.encoder, textwrap, inspect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What was made. `feature` is the index of a feature of the first source with contexts in several groups."""

    feature: int
    model: str = MODEL
    source: str = "1-res-topk"
    user: str = USER
    password: str = PASSWORD

    @property
    def feature_url(self) -> str:
        return f"/{self.model}/{self.source}/{self.feature}"

    @property
    def source_url(self) -> str:
        return f"/{self.model}/{self.source}"


def build(dictionaries: list[int]) -> None:
    """Build the dashboards of dictionaries (ids) of the site's model on its text."""
    from features import services
    from features.builds import run_build
    from features.models import Run

    run = services.runs.create_build(dictionaries=dictionaries, corpus="python", n_tokens=N_TOKENS, context_size=64)
    run_build(run)
    # A worker that was there before the site may share the build, and end it.
    deadline = time.monotonic() + 120
    while (finished := Run.objects.get(id=run)).state in Run.ACTIVE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert finished.state == Run.State.DONE, finished.error


@contextmanager
def built_site(folder: Path) -> Iterator[Site]:
    """Register, build and yield a site; remove its rows and partitions afterwards."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from features import services
    from features.loading import facts_of
    from features.models import Dictionary, Feature
    from features.services.corpora import NewDocument
    from inference.language_models import load_language_model

    path = tiny_model(folder, context_size=256)
    model = load_language_model(str(path), name=MODEL)
    facts = facts_of(model, path=str(path))
    services.models.add_model(facts=facts, slug=MODEL, name="A tiny model")
    for source, (hook_point, architecture) in SOURCES.items():
        made = tiny_dictionary(
            folder, architecture=architecture, hook_name=hook_point, d_in=32, d_sae=N_FEATURES, source=source
        )
        services.dictionaries.add_dictionary(path=made, model=MODEL, source=source)
    files = [Path(inspect.getsourcefile(module)) for module in DOCUMENTS]
    services.corpora.add_corpus(name="Python", documents=[NewDocument(name=f.name, path=f) for f in files])
    ids = list(Dictionary.objects.order_by("layer").values_list("id", flat=True))
    build(ids)
    get_user_model().objects.create_user(USER, password=PASSWORD)
    get_user_model().objects.create_user(STAFF, password=PASSWORD, is_staff=True)
    telling = Feature.objects.of(ids[0]).filter(firing_count__gt=60).order_by("firing_count", "index").first()
    try:
        yield Site(feature=telling.index)
    finally:
        for dictionary in ids:
            services.dictionaries.remove_dictionary(dictionary=dictionary)
        call_command("flush", interactive=False, verbosity=0)
