"""Every layout computes what its publisher's formula says, at any width and from any container."""

import pytest
import torch

from inference.dictionaries import load_dictionary, read_config
from inference.dictionaries.formats import FORMATS
from inference.dictionaries.formats.plain import ARCHITECTURES as PLAIN
from inference.dictionaries.formats.tensors import read_tensors
from tests.inference.dictionaries.layouts import CASES, VARIANTS, Draw

WRITERS = {f"{layout}-{name}": write for (layout, name), write in CASES.items()} | VARIANTS


@pytest.fixture(params=WRITERS.values(), ids=WRITERS)
def written(request, tmp_path):
    return request.param(tmp_path, Draw(torch.Generator().manual_seed(3)))


@pytest.fixture
def x_td(written):
    return 2 * torch.randn(61, written.d_in, generator=torch.Generator().manual_seed(4)) + 0.5


def relative_error(ours, expected):
    return float((ours.double() - expected).norm() / expected.norm())


def test_every_architecture_of_every_layout_has_a_case():
    assert set(CASES) == {(layout, name) for layout, module in FORMATS.items() for name in module.ARCHITECTURES}


def test_layout_equals_its_formula(written, x_td):
    dictionary = load_dictionary(written.path, device="cpu")
    a_tf = written.encode(x_td.double())
    assert (a_tf != 0).sum() > 0
    assert written.dense == bool((a_tf != 0).all())
    activations = dictionary.encode(x_td)
    ours_tf = activations.dense()
    assert torch.equal(ours_tf != 0, a_tf != 0)
    assert relative_error(ours_tf, a_tf) < 1e-5
    assert dictionary.config.decodes == (written.decode is not None)
    if written.decode:
        assert relative_error(dictionary.decode(activations, x_td), written.decode(a_tf, x_td.double())) < 1e-5
    chosen = [7, 3, 104, 3]
    assert relative_error(dictionary.encode_features(x_td, chosen), a_tf[:, chosen]) < 1e-5
    h_tf = dictionary.pre_activations(x_td)
    assert torch.equal(dictionary.activate(h_tf, x_td).dense() != 0, a_tf != 0)
    spans = [(0, 3), (3, len(x_td))]
    fires, heights = dictionary.encode_with_heights(x_td, spans)
    assert torch.equal(fires.dense() != 0, a_tf != 0)
    highest_cf = torch.stack([h_tf[first:last].amax(0) for first, last in spans]).float()
    torch.testing.assert_close(heights.highest_cf, highest_cf, atol=1e-5, rtol=1e-5)
    values_n, rows_n = heights.exact(torch.tensor([0, 1, 1]), torch.tensor(chosen[:3]))
    torch.testing.assert_close(values_n.float(), highest_cf[[0, 1, 1], chosen[:3]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(h_tf[rows_n, chosen[:3]].float(), values_n.float(), atol=1e-5, rtol=1e-5)


def test_layout_says_what_it_is(written):
    config = read_config(written.path)
    for name, value in written.facts.items():
        assert getattr(config, name) == value, name
    assert config.evidence
    # What the engine loads later by the path that is stored.
    assert read_config(config.path) == config
    negative = bool((written.encode(torch.randn(50, written.d_in).double()) < 0).any())
    assert config.is_signed == written.facts.get("is_signed", negative)
    assert config.is_signed >= negative


def test_unfolded_weights_are_those_of_the_file(written):
    config = read_config(written.path)
    stored = read_tensors(config)
    sizes = {"f": config.n_features, "d": config.d_in, "o": config.d_out}
    for canonical in ("w_enc_fd", "w_dec_fo", "archetypes_fp", "points_po", "w_p_pd", "w_q_qd"):
        if canonical in stored:
            shape = dict(zip(canonical.rpartition("_")[2], stored[canonical].shape, strict=True))
            assert shape.items() >= {axis: sizes[axis] for axis in shape if axis in sizes}.items()
    assert {"w_enc_fd", "w_p_pd", "w_dec_fo"} & stored.keys()
    assert not config.has_directions or {"w_dec_fo", "points_po"} & stored.keys()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", PLAIN)
def test_every_architecture_works_in_every_dtype(tmp_path, name, dtype):
    written = CASES["plain", name](tmp_path, Draw(torch.Generator().manual_seed(3)))
    dictionary = load_dictionary(written.path, device="cpu", dtype=dtype)
    x_td = torch.randn(40, written.d_in, generator=torch.Generator().manual_seed(4)).to(getattr(torch, dtype))
    activations = dictionary.encode(x_td)
    y_to = dictionary.decode(activations, x_td)
    assert activations.values_n.dtype == dictionary.encode_features(x_td, [3, 7]).dtype == y_to.dtype == x_td.dtype
    expected_to = written.decode(written.encode(x_td.double()), x_td.double())
    # Features near a threshold, or near the k-th, change sides where half of the digits are missing.
    assert relative_error(y_to, expected_to) < {"float64": 1e-6, "bfloat16": 0.3}[dtype]


def test_llama_scope_names_the_model_of_its_lm_config(tmp_path):
    written = CASES["llama_scope", "relu"](tmp_path, Draw(torch.Generator().manual_seed(3)))
    assert read_config(written.path).model_name == "meta-llama/Llama-3.1-8B"
    (written.path / "lm_config.json").write_text('{"model_name": "someone/another-llama"}')
    assert read_config(written.path).model_name == "someone/another-llama"
