"""Explanations of a real pass, and of planted features whose labels are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inference.dashboards import run_pass
from inference.dashboards.results import DocumentRef
from inference.dictionaries import load_dictionary
from inference.explanations import METHOD, explain
from tests.tiny import tiny_dictionary

TEXT = "\n".join(
    f"def get_{name}(self, value):\n    return value + {number}\n" for number, name in enumerate("abcdefgh")
)


def test_every_feature_has_one_and_always_the_same(result, setting):
    vocabulary = setting.model.vocabulary()
    for board in result.dashboards.values():
        explanations = list(explain(board, vocabulary, result.contexts))
        assert len(explanations) == board.n_features
        assert explanations == list(explain(board, vocabulary, result.contexts))
        for feature, explanation in enumerate(explanations):
            assert explanation.text
            assert len(explanation.text) < 80
            assert explanation.method == METHOD
            assert json.loads(json.dumps(explanation.evidence)) == explanation.evidence
            assert explanation.evidence["firing_count"] == board.firing_count_f[feature]
            silent = explanation.evidence["pattern"] == "silent"
            assert silent == (board.firing_count_f[feature] == 0)
            if explanation.evidence["pattern"].startswith("strongest"):
                assert explanation.text.startswith("strongest: ")
                assert explanation.evidence["strongest"]["n_examples"] <= explanation.evidence["n_examples"]


@pytest.fixture(scope="module")
def planted(setting, tmp_path_factory):
    """Dictionaries on token embeddings, each feature of which fires on one token: its label is known."""
    import torch
    from safetensors.torch import load_file, save_file

    model, folder = setting.model, tmp_path_factory.mktemp("planted")
    path = tiny_dictionary(folder, "standard", "hook_embed", d_sae=3, source="planted")
    embedding = model.module.transformer.wte.weight
    ids = [model.tokenize(word, prepend_bos=False).ids[0] for word in ("self", " return", " value")]
    rows = torch.nn.functional.normalize(embedding[ids], dim=1)
    own = (rows * embedding[ids]).sum(1)
    others = (embedding @ rows.T).scatter(0, torch.tensor([ids]), -torch.inf).amax(0)
    weights = load_file(path / "sae_weights.safetensors")
    weights |= {"W_enc": rows.T.contiguous(), "W_dec": rows, "b_enc": -(own + others) / 2, "b_dec": torch.zeros(32)}
    save_file(weights, path / "sae_weights.safetensors")
    (folder / "text.py").write_text(TEXT)
    documents = [DocumentRef(ordinal=0, name="text.py", path=str(folder / "text.py"))]
    outcome = run_pass(
        model, {"planted": load_dictionary(path)}, documents, workdir=folder / "w", n_tokens=1000, context_size=32
    )
    return ids, outcome


def test_planted_features_are_named_by_their_token(planted, setting):
    ids, outcome = planted
    board = outcome.dashboards["planted"]
    np.testing.assert_array_equal(board.peak_token_ids_fk[:, 0], ids)
    np.testing.assert_allclose(board.token_entropy_f, 0, atol=1e-6)
    vocabulary = setting.model.vocabulary()
    texts = [explanation.text for explanation in explain(board, vocabulary, outcome.contexts)]
    for token_id, text in zip(ids, texts, strict=True):
        assert text.startswith(f'"{vocabulary[token_id].strip()}"')


def test_planted_features_see_their_surroundings(planted, setting):
    _, outcome = planted
    explanations = list(explain(outcome.dashboards["planted"], setting.model.vocabulary(), outcome.contexts))
    of_self = explanations[0].evidence
    assert of_self["line"][0][0] == "def"
    assert of_self["left"][0][0] == "("
    assert of_self["pattern"].startswith("token+")
