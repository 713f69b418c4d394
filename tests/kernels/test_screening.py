"""What bounds promise: nothing in float32 is above them, whatever the numbers."""

import pytest
import torch

from inference.dictionaries.architectures.jumprelu import JumpReLU
from inference.dictionaries.architectures.linear import LinearEncoder
from inference.dictionaries.architectures.topk import TopK
from inference.dictionaries.sparse import SparseActivations
from kernels import screening
from kernels.bounds import InBfloat16, InBytes
from kernels.encode_threshold import above_of, encode_threshold
from kernels.encode_topk import encode_topk
from kernels.processors import has_exact_bytes, has_fast_bfloat16
from kernels.products import Product
from kernels.screening import Screen, Use
from tests.kernels.inputs import FORMATS, NOT_FINITE, WELL_BEHAVED, Inputs, normal, screen_in


def outlying_weights() -> Inputs:
    x_td, w_fd, b_f = normal(6, 80, 300)
    w_fd[::3, 7] = 300.0
    w_fd[5] *= 1e6
    return Inputs(x_td, w_fd, b_f)


def outlying_inputs() -> Inputs:
    x_td, w_fd, b_f = normal(6, 80, 300)
    x_td[:, 3], x_td[2, 9] = 400.0, -1e5
    return Inputs(x_td, w_fd, b_f)


def rows_of_zeros() -> Inputs:
    x_td, w_fd, b_f = normal(6, 80, 300)
    x_td[1], w_fd[4], b_f[9] = 0, 0, 0
    w_fd[9] = -0.0
    return Inputs(x_td, w_fd, b_f)


def of_any_size() -> Inputs:
    """Numbers from denormal ones to as large as products of them can be added up."""
    x_td, w_fd, b_f = normal(12, 80, 300)
    x_td *= torch.logspace(-42, 15, 12)[:, None]
    return Inputs(x_td, w_fd * torch.logspace(-42, 15, 300)[:, None], b_f * 0)


def exact_steps() -> Inputs:
    """Weights and inputs that lose nothing as they are rounded: the sums alone may differ."""
    x_td, w_fd, b_f = normal(6, 80, 300)
    x_td, w_fd = x_td.mul(40).round().clamp(-127, 127), w_fd.mul(300).round().clamp(-127, 127)
    x_td[:, 0] = w_fd[:, 0] = 127
    return Inputs(x_td, w_fd, b_f)


def largest_bytes() -> Inputs:
    """What sums of bytes in 16 bits would be cut at: `maddubs`, on processors before those that screens are for."""
    x_td, w_fd, b_f = normal(4, 2048, 300)
    return Inputs(x_td.sign(), w_fd.abs().sign() * 0.5, b_f)


CASES = WELL_BEHAVED | {
    "outlying-weights": outlying_weights,
    "outlying-inputs": outlying_inputs,
    "zeros": rows_of_zeros,
    "any-size": of_any_size,
    "exact": exact_steps,
    "largest": largest_bytes,
}


@pytest.mark.parametrize("case", [name for name in CASES if name != "no-tokens"])
@pytest.mark.parametrize("format", FORMATS)
def test_no_score_is_above_its_bound_nor_further_below_than_the_gap(format, case):
    inputs = CASES[case]()
    rounded = FORMATS[format].of(inputs.w_fd, inputs.b_f)
    given = rounded.inputs(inputs.x_td)
    bound_tf = rounded.bounds(given).double()
    h_tf = (inputs.x_td @ inputs.w_fd.T + inputs.b_f).double()
    # Where float32 has infinities bounds need not; of bfloat16 the stored bound was rounded once more.
    finite_tf = h_tf.isfinite() & inputs.scores().isfinite()
    as_stored_tf = bound_tf.abs() * 2**-8 if rounded.bounds(given).dtype == torch.bfloat16 else 0
    assert (bound_tf + as_stored_tf >= torch.maximum(h_tf, inputs.scores()))[finite_tf].all()
    assert (bound_tf - rounded.gap(given)[:, None].double() - as_stored_tf <= h_tf + 1e-37)[finite_tf].all()


def test_two_bytes_lose_a_thousandth_of_what_one_loses():
    """Inputs with one coordinate far larger than the others, as residual streams have, keep their bounds close."""
    x_td, w_fd, b_f = normal(3, 768, 500)
    x_td[:, 5] = 60.0
    w_fd[:, 5] = 0
    rounded = InBytes.of(w_fd, b_f)
    given = rounded.inputs(x_td)
    bound_tf = rounded.bounds(given)
    h_tf = x_td @ w_fd.T + b_f
    only_weights_tf = x_td.norm(dim=1, keepdim=True) * rounded.added_cf[2] * 1.04
    assert (bound_tf - h_tf <= 2 * only_weights_tf).all()
    assert (bound_tf - h_tf).median() < 0.6  # of scores of a normal distribution


@pytest.mark.parametrize("case", NOT_FINITE)
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_not_finite_has_no_bounds_or_is_a_candidate(format, case):
    inputs = NOT_FINITE[case]()
    rounded = FORMATS[format].of(inputs.w_fd, inputs.b_f)
    given = rounded.inputs(inputs.x_td)
    strange_f = ~inputs.w_fd.isfinite().all(1)
    assert (given is None) == (not inputs.x_td.isfinite().all())
    if given is not None:
        bound_tf = rounded.bounds(given)
        assert bound_tf.isfinite().all()
        assert (bound_tf[:, strange_f] > 1e29).all()
        assert rounded.gap(given).max() < 100


@pytest.mark.skipif(not has_exact_bytes(), reason="needs a processor that adds up products of bytes in 32 bits")
def test_sums_of_bytes_are_exact():
    x_td, w_fd, _ = largest_bytes()
    rounded = InBytes.of(w_fd, torch.zeros(300))
    given = rounded.inputs(x_td)
    least_tf = rounded.bounds(given) - given.added_tc @ rounded.added_cf
    torch.testing.assert_close(least_tf, x_td @ w_fd.T, rtol=1e-5, atol=1e-3)


def test_rounding_in_steps_gives_the_same(monkeypatch):
    w_fd, b_f = normal(1, 33, 500)[1:]
    whole = [format.of(w_fd, b_f) for format in FORMATS.values()]
    monkeypatch.setattr("kernels.bounds._ROUNDED_AT_ONCE", 33 * 7)
    steps = [format.of(w_fd, b_f) for format in FORMATS.values()]
    assert torch.equal(whole[0].w_fe, steps[0].w_fe)
    assert torch.equal(whole[1].added_cf, steps[1].added_cf)
    assert torch.equal(whole[1].step_f, steps[1].step_f)


# Few tokens of weights that come from memory: where both formats serve.
@pytest.mark.parametrize("n_tokens", [1, 3, 16])
def test_the_same_digits_come_out_whichever_format_found_them(n_tokens):
    x_td, w_fd, b_f = normal(n_tokens, 96, 4000)
    threshold_f = torch.full((4000,), 2.7)
    rows = [
        encode_threshold(x_td, w_fd, b_f, threshold_f, screen=screen_in(format, w_fd, b_f - threshold_f))
        for format in FORMATS.values()
    ]
    best = [encode_topk(x_td, w_fd, b_f, 12, screen=screen_in(format, w_fd, b_f)) for format in FORMATS.values()]
    for found in (rows, best):
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    dense = encode_threshold(x_td, w_fd, b_f, threshold_f)
    assert torch.equal(dense.indices_n, rows[0].indices_n)
    torch.testing.assert_close(dense.values_n, rows[0].values_n, rtol=1e-6, atol=1e-6)


def test_a_screen_is_made_of_what_serves_and_when_it_does(monkeypatch):
    monkeypatch.setattr(screening, "_FROM_MEMORY", 96 * 4000)
    x_td, w_fd, b_f = normal(40, 96, 4000)
    uses = (Use(format=InBytes, most_inputs=16 * 96), Use(format=InBfloat16))
    screen = Screen(w_fd=w_fd, offset_f=b_f - 2.7, uses=uses)
    served = {}
    for n_tokens in (40, 16, 1):
        product = Product(x_td=x_td[:n_tokens], w_fd=w_fd, b_f=b_f, screen=screen)
        served[n_tokens] = [type(bounded.format) for bounded in product.bounded()]
    assert served == {40: [InBfloat16], 16: [InBytes, InBfloat16], 1: [InBytes, InBfloat16]}
    assert next(screen.formats(x_td[:1])) is next(screen.formats(x_td[:2]))
    few = Screen(w_fd=w_fd, offset_f=b_f - 2.7, uses=uses)
    next(few.formats(x_td[:1]))
    assert [type(made) for made in few._made.values()] == [InBytes]
    # No tokens, and weights that lie in a processor's cache.
    assert not screen.pays_for(x_td[:0])
    monkeypatch.setattr(screening, "_FROM_MEMORY", 96 * 4000 + 1)
    assert not screen.pays_for(x_td)


def test_the_next_format_is_tried_where_the_first_has_too_many_candidates(monkeypatch):
    monkeypatch.setattr(screening, "_FROM_MEMORY", 96 * 4000)
    x_td, w_fd, b_f = normal(1, 96, 4000)
    threshold_f = torch.full((4000,), 2.9)
    for far, first in ((1.0, InBytes), (300.0, InBfloat16)):
        # Of what all rows lose by rounding, an input that is large there, and does not matter, makes bounds wide.
        x_far_td, w_far_fd = x_td.clone(), w_fd.clone()
        x_far_td[:, 0], w_far_fd[:, 0] = far, 0
        uses = (Use(format=InBytes), Use(format=InBfloat16))
        screen = Screen(w_fd=w_far_fd, offset_f=b_f - threshold_f, uses=uses)
        product = Product(x_td=x_far_td, w_fd=w_far_fd, b_f=b_f, screen=screen)
        rows = above_of(product, threshold_f)
        wanted = encode_threshold(x_far_td, w_far_fd, b_f, threshold_f)
        assert torch.equal(rows.indices_n, wanted.indices_n)
        assert type(product.bounds.format) is first, far
        assert not product.is_dense


def test_memory_is_counted_in_both_formats(monkeypatch):
    w_fd = torch.zeros(4000, 96)
    monkeypatch.setattr(screening, "USES", (Use(format=InBytes), Use(format=InBfloat16)))
    monkeypatch.setattr(screening, "_FROM_MEMORY", 1)
    for format in (InBytes, InBfloat16):
        monkeypatch.setattr(format, "suits", staticmethod(lambda w_fd: True))
    rounded = InBytes.of(w_fd, torch.zeros(4000))
    held = [rounded.packed, rounded.step_f, rounded.zero_f, rounded.added_cf]
    held += [rounded.some.packed, rounded.some.step_f, rounded.some.zero_f, rounded.some.added_cf]
    of_bytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert InBytes.n_bytes(w_fd) == pytest.approx(of_bytes, rel=0.02)
    in_bfloat16 = InBfloat16.of(w_fd, torch.zeros(4000)).w_fe.nbytes
    assert Screen.n_bytes(w_fd) == InBytes.n_bytes(w_fd) + in_bfloat16


@pytest.mark.skipif(
    not (has_exact_bytes() and has_fast_bfloat16()), reason="needs a processor that multiplies bytes and bfloat16"
)
def test_an_encoder_of_weights_from_memory_is_screened_in_bytes_a_token_at_a_time(monkeypatch):
    monkeypatch.setattr(screening, "_FROM_MEMORY", 96 * 4000)
    x_td, w_fd, b_f = normal(200, 96, 4000)
    for activation in (TopK.of(12, w_fd, b_f), JumpReLU.of(torch.full((4000,), 2.7), w_fd, b_f)):
        encoder = LinearEncoder(w_fd, b_f, activation)
        assert encoder.n_bytes == w_fd.nbytes + b_f.nbytes + InBytes.n_bytes(w_fd) + InBfloat16.n_bytes(w_fd)
        one_by_one = SparseActivations.concatenate([encoder.encode(x_1d) for x_1d in x_td[:20].split(1)])
        assert list(activation.screen._made) == [InBytes]
        together = encoder.encode(x_td).rows(torch.arange(200) < 20)
        assert set(activation.screen._made) == {InBytes, InBfloat16}
        assert torch.equal(one_by_one.indptr, together.indptr)
        # Whichever format found them, the digits are the same.
        assert torch.equal(one_by_one.indices_n, together.indices_n)
        assert torch.equal(one_by_one.values_n, together.values_n)
