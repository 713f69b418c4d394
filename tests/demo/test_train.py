"""The whole training, on a model and dictionaries so small that seconds suffice."""

import json

import numpy as np
import pytest
import torch

from demo import language_model, train
from demo.dictionaries import Plan
from demo.language_model import Recipe
from demo.sources import list_sources
from demo.tokenizer import Windows
from inference.dictionaries import load_dictionary

RECIPE = Recipe(
    minutes=0.02, layers=2, width=16, heads=2, vocabulary=300, context=32, batch=4, compile=False, attention="sdpa"
)
PLANS = (
    Plan("0-res-topk", "topk", "blocks.0.hook_resid_post", "blocks.0.hook_resid_post", features=32, k=4),
    Plan("1-res-jump", "jumprelu", "blocks.1.hook_resid_post", "blocks.1.hook_resid_post", features=32, k=4),
    Plan("1-att-topk", "topk", "blocks.1.attn.hook_z", "blocks.1.attn.hook_z", features=32, k=4),
    Plan("1-tc-jump", "jumprelu_transcoder", "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out", 32, 4),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    for number in range(60):
        (root / f"module_{number}.py").write_text(f"def add_{number}(left, right):\n    return left + right\n" * 12)
    return list_sources(roots=[("stdlib", root)])


@pytest.fixture(scope="module")
def built(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    found = train.build(
        RECIPE, PLANS, sources, work=out / "work", out=out, dictionary_minutes=0.02, tokens=256, pool=512
    )
    return out, found


def test_everything_is_written(built):
    out, found = built
    assert json.loads((out / "measurements.json").read_text()) == found
    assert {path.name for path in (out / "dictionaries").iterdir()} == {plan.source for plan in PLANS}
    assert f"{found['model']['nats_per_token']:.3f} nats per token" in (out / "README.md").read_text()


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.source)
def test_dictionaries_are_sparse_and_of_unit_norm(built, plan):
    out, found = built
    dictionary = load_dictionary(out / "dictionaries" / plan.source, device="cpu")
    torch.testing.assert_close(dictionary.decoder.w_dec_fo.norm(dim=1), torch.ones(plan.features))
    assert (dictionary.hook_in, dictionary.hook_out) == (plan.hook_in, plan.hook_out)
    assert 0 < found["dictionaries"][plan.source]["l0_mean"] < plan.features / 2


def test_second_run_changes_nothing(built, sources):
    out, found = built
    again = train.build(
        RECIPE, PLANS, sources, work=out / "work", out=out, dictionary_minutes=0.02, tokens=256, pool=512
    )
    assert again == found


def test_killed_training_goes_on(tmp_path):
    windows = Windows(np.arange(6400, dtype=np.uint16) % 300, RECIPE.context)
    options = {"device": torch.device("cpu"), "checkpoint": tmp_path / "checkpoint.pt"}
    _, first = language_model.train(RECIPE, windows, stop_after=0.2, **options)
    first = dict(first)
    model, second = language_model.train(RECIPE, windows, **options)
    assert first["elapsed"] < 60 * RECIPE.minutes <= second["elapsed"]
    assert second["step"] > first["step"]
    assert second["tokens"] == second["step"] * RECIPE.batch * RECIPE.context
    saved = torch.load(options["checkpoint"], weights_only=True)
    torch.testing.assert_close(saved["model"], dict(model.state_dict()))
