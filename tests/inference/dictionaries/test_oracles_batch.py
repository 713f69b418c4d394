"""Features that compete across a batch do so as in the package that trained them. Runs where it is installed."""

import json

import pytest
import torch

from inference.dictionaries import load_dictionary
from tests.inference.dictionaries.test_oracles import SIZES, assert_same, inputs, randomize

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_batch_rule_of_dictionary_learning(tmp_path, name, sizes):
    pytest.importorskip("dictionary_learning", exc_type=ImportError)
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k

    d_in, n_features = sizes
    module, settings = {
        "BatchTopKSAE": (batch_top_k, {}),
        "MatryoshkaBatchTopKSAE": (matryoshka_batch_top_k, {"group_sizes": [20, n_features - 20]}),
    }[name]
    theirs = randomize(getattr(module, name)(d_in, n_features, k=7, **settings))
    torch.save(theirs.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": name, "submodule_name": "resid_post_layer_1"}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    (tmp_path / "facet.json").write_text('{"batch_rule": true}')
    x_td = inputs(d_in)
    with torch.inference_mode():
        a_tf = theirs.encode(x_td, use_threshold=False)
        y_to = theirs.decode(a_tf)
    assert int((a_tf != 0).sum()) == 7 * len(x_td)
    assert_same(load_dictionary(tmp_path, device="cpu"), x_td, a_tf, y_to)
