"""Dictionaries of several hook points, of sequences and of transforms at work on a model."""

from dataclasses import replace

import pytest
import torch

from inference.activations import capture, spliced
from inference.dictionaries import load_dictionary, parts_of
from inference.dictionaries.config import DictionaryDoesNotFit, check_fit
from inference.dictionaries.dictionary import WithoutDecoder
from inference.evaluation import IncompleteSet, evaluate
from inference.generation import generate
from inference.prompts import feature_activations, prompt_features
from inference.values import Edit
from tests.tiny import TEXT
from tests.tiny_sets import CROSSCODER_POINTS, LAYERS, tiny_clt, tiny_crosscoder, tiny_molt, tiny_temporal


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {
        "clt": tiny_clt(folder / "clt"),
        "crosscoder": tiny_crosscoder(folder / "crosscoder"),
        "temporal": tiny_temporal(folder / "temporal"),
        "molt": tiny_molt(folder / "molt"),
    }


@pytest.fixture(scope="module")
def clt(folders):
    return {f"layer {layer}": load_dictionary(f"{folders['clt']}#{layer}", device="cpu") for layer in range(LAYERS)}


@pytest.fixture(scope="module")
def alone(folders):
    return {name: load_dictionary(folders[name], device="cpu") for name in ("crosscoder", "temporal", "molt")}


def hooks_of(dictionaries):
    return {name for d in dictionaries.values() for name in (d.hook_in, d.hook_out)}


def test_every_one_of_them_fits_its_model(gpt2, clt, alone):
    for dictionary in (*clt.values(), *alone.values()):
        check_fit(dictionary.config, gpt2.shape)
        with pytest.raises(DictionaryDoesNotFit):
            check_fit(dictionary.config, replace(gpt2.shape, d_model=64))


def test_prompts_show_what_fires_in_all_of_them(gpt2, clt, alone):
    dictionaries = clt | alone
    tokens = gpt2.tokenize(TEXT)
    found = prompt_features(gpt2, dictionaries, tokens, top_k=400)
    assert {feature.source for feature in found.features} == set(dictionaries)
    best = next(feature for feature in found.features if feature.source == "crosscoder")
    a_tm = feature_activations(gpt2, alone["crosscoder"], tokens, [best.index])
    assert a_tm[:, 0].tolist() == pytest.approx(best.values, rel=1e-4, abs=1e-5)


def test_a_crosscoder_reads_all_its_points_at_once(gpt2, alone):
    crosscoder, tokens = alone["crosscoder"], gpt2.tokenize(TEXT)
    points = CROSSCODER_POINTS.split("+")
    x = capture(gpt2, gpt2.ids_bt(tokens), [*points, CROSSCODER_POINTS])
    assert torch.equal(x[CROSSCODER_POINTS], torch.cat([x[point] for point in points], dim=-1))
    w_fd, b_f = crosscoder.encoder.w_enc_fd, crosscoder.encoder.b_enc_f
    h_tf = sum(x[point][0] @ w_fd.chunk(2, 1)[at].T for at, point in enumerate(points)) + b_f
    fires_tf = crosscoder.encode(x[CROSSCODER_POINTS][0]).dense() > 0
    # Gates are by the lengths that a feature writes at each point together.
    norm_f = sum(d_fd.norm(dim=1) for d_fd in crosscoder.decoder_directions().chunk(2, 1))
    assert torch.equal(fires_tf, h_tf.relu() * norm_f > 3.0)


def test_a_temporal_dictionary_keeps_sequences_apart(gpt2, alone):
    temporal, tokens = alone["temporal"], gpt2.tokenize(TEXT)
    x_td = capture(gpt2, gpt2.ids_bt(tokens), [temporal.hook_in])[temporal.hook_in][0]
    both_td, lengths = torch.cat([x_td, x_td[:7]]), [len(x_td), 7]
    apart = temporal.encode(both_td, lengths).dense()
    assert torch.allclose(apart[: len(x_td)], temporal.encode(x_td).dense(), atol=1e-6)
    assert torch.allclose(apart[len(x_td) :], temporal.encode(x_td[:7]).dense(), atol=1e-6)
    assert not torch.allclose(apart, temporal.encode(both_td).dense(), atol=1e-4)
    y_td = temporal.reconstruct(both_td, lengths)
    assert torch.allclose(y_td[len(x_td) :], temporal.reconstruct(x_td[:7]), atol=1e-5)


def test_layers_of_a_set_are_evaluated_together(gpt2, clt, folders, evaluated_contexts):
    found = evaluate(gpt2, clt, evaluated_contexts)
    assert set(found) == set(clt)
    assert len(set(map(str, found.values()))) == 1
    figures = found["layer 0"]
    assert figures.n_terms == LAYERS
    expected = reference_of_set(gpt2, clt, evaluated_contexts)
    for name, value in expected.items():
        assert getattr(figures, name) == pytest.approx(value, rel=1e-4), name


def reference_of_set(model, clt, contexts):
    """Compute the figures one context at a time, from the formula: every layer sees the clean model."""
    points = [f"blocks.{layer}.hook_mlp_out" for layer in range(LAYERS)]
    reads = [f"blocks.{layer}.hook_resid_mid" for layer in range(LAYERS)]
    first, l0, truth, errors, ce, n = int(contexts.has_bos), [], [], [], 0.0, 0
    for number in range(len(contexts)):
        ids = torch.tensor(contexts.tokens(number)[0].astype("int64"))[None]
        x = capture(model, ids, [*reads, *points])
        written = {point: torch.zeros_like(x[point][0, first:]) for point in points}
        counts = 0
        for layer, dictionary in enumerate(clt.values()):
            x_td = x[reads[layer]][0, first:]
            h_tf = x_td @ dictionary.encoder.w_enc_fd.T + dictionary.encoder.b_enc_f
            a_tf = h_tf * (h_tf > dictionary.encoder.activation.threshold_f)
            counts = counts + (a_tf != 0).sum(1)
            d_fpd = dictionary.decoder.w_dec_fo.unflatten(1, (LAYERS - layer, -1))
            for at, target in enumerate(range(layer, LAYERS)):
                written[points[target]] += a_tf @ d_fpd[:, at]
            written[points[layer]] += dictionary.decoder.b_out_o[: d_fpd.shape[2]]
        y_to = torch.cat([x[point][0, first:] for point in points], dim=1)
        l0.append(counts)
        truth.append(y_to)
        errors.append(y_to - torch.cat(list(written.values()), dim=1))

        def put(point, written=written):
            return lambda x_btd: torch.cat([x_btd[:, :first], written[point][None]], dim=1)

        with torch.inference_mode(), spliced(model, {point: put(point) for point in points}):
            log_p = model.module(ids).logits[0].log_softmax(-1)
        for position in range(first, ids.shape[1] - 1):
            ce -= log_p[position, ids[0, position + 1]].item()
            n += 1
    y_to, error_to = torch.cat(truth), torch.cat(errors)
    return {
        "l0_mean": torch.cat(l0).float().mean().item(),
        "mean_squared_error": error_to.square().sum(1).mean().item(),
        "explained_variance": 1 - (error_to.square().sum() / (y_to - y_to.mean(0)).square().sum()).item(),
        "ce_spliced": ce / n,
    }


def test_a_set_is_not_evaluated_without_one_of_its_layers(gpt2, clt, folders, evaluated_contexts):
    assert parts_of(folders["clt"]) == ["0", "1", "2"]
    with pytest.raises(IncompleteSet) as error:
        evaluate(gpt2, {name: d for name, d in clt.items() if name != "layer 1"}, evaluated_contexts)
    assert "2 of the 3 terms" in error.value.cause
    assert f"{folders['clt']}#1" in error.value.remedy


def test_others_are_evaluated_for_themselves(gpt2, alone, evaluated_contexts):
    found = evaluate(gpt2, alone, evaluated_contexts)
    for figures in found.values():
        assert figures.n_terms == 1
        assert figures.l0_mean > 1
        assert figures.ce_spliced != figures.ce_clean != figures.ce_ablated


def test_steering_a_feature_that_writes_at_several_points_moves_all_of_them(gpt2, clt, alone):
    dictionaries = clt | alone
    tokens = gpt2.tokenize(TEXT)
    for source in ("crosscoder", "layer 0"):
        edit = Edit(dictionary_key=source, feature=3, strength=8.0, maximum=5.0)
        rows = {0: [], 1: []}
        for token in generate(gpt2, tokens, n_tokens=6, dictionaries=dictionaries, variants=[[], [edit]], seed=1):
            rows[token.row].append(token.token_id)
        assert rows[0] != rows[1], source


def test_a_transform_cannot_be_steered_and_says_so(gpt2, alone):
    edit = Edit(dictionary_key="molt", feature=3, strength=2.0, maximum=5.0)
    with pytest.raises(WithoutDecoder) as error:
        list(generate(gpt2, gpt2.tokenize(TEXT), n_tokens=2, dictionaries=alone, variants=[[], [edit]], seed=1))
    assert "no decoder directions" in error.value.cause


@pytest.fixture(scope="module")
def evaluated_contexts(tmp_path_factory, models):
    from inference.dashboards.corpus import read_contexts
    from inference.dashboards.results import DocumentRef

    path = tmp_path_factory.mktemp("documents") / "0.py"
    path.write_text(TEXT * 6)
    documents = [DocumentRef(ordinal=0, name=path.name, path=str(path))]
    table, _ = read_contexts(models["gpt2"], documents, n_tokens=400, context_size=48, prepend_bos=True)
    return table
