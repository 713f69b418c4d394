"""Fidelity: against float64 arithmetic written out, and at both ends of its scales."""

import copy
import math
from dataclasses import asdict, replace

import pytest
import torch

from inference.dashboards.corpus import read_contexts
from inference.dashboards.encoding import ActivationsNotFinite
from inference.dashboards.results import DocumentRef
from inference.dictionaries import load_dictionary
from inference.dictionaries.architectures.jumprelu import JumpReLU
from inference.dictionaries.architectures.linear import LinearDecoder, LinearEncoder
from inference.evaluation import Reconstruction, Sums, evaluate
from inference.language_models import ModelWithoutHead
from tests.tiny import TEXT

N_TOKENS = 900


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Two documents whose last windows are shorter than the others, so that batches have padding."""

    def made(model, *, prepend_bos=True):
        folder = tmp_path_factory.mktemp("documents")
        documents = []
        for ordinal, repeats in enumerate((9, 2)):
            path = folder / f"{ordinal}.py"
            path.write_text(TEXT * repeats + f"print({ordinal})\n")
            documents.append(DocumentRef(ordinal=ordinal, name=path.name, path=str(path)))
        table, _ = read_contexts(model, documents, n_tokens=N_TOKENS, context_size=48, prepend_bos=prepend_bos)
        return table

    return made


def quantile(values, share):
    return float(sorted(values)[math.ceil(share * len(values)) - 1])


def reference(module, dictionary, contexts, *, read, write, into, reads_input_of=None, k=None):
    """Compute every figure one context at a time in float64, with hooks of torch and sums over lists."""
    module = copy.deepcopy(module).double()
    w_enc, b_enc = dictionary.encoder.w_enc_fd.double(), dictionary.encoder.b_enc_f.double()
    w_dec, b_out = dictionary.decoder.w_dec_fo.double(), dictionary.decoder.b_out_o.double()
    first = int(contexts.has_bos)
    l0, xs, errors, counts = [], [], [], 0
    sums = dict.fromkeys(("ce_clean", "ce_spliced", "ce_ablated", "kl_spliced", "kl_ablated"), 0.0)
    for number in range(len(contexts)):
        ids = torch.tensor(contexts.tokens(number)[0].astype("int64"))[None]
        seen = {}
        handles = [
            read(module).register_forward_hook(lambda m, args, out, seen=seen: seen.update(x=into(m, args, out))),
            write(module).register_forward_hook(lambda m, args, out, seen=seen: seen.update(y=first_of(out))),
        ]
        with torch.no_grad():
            logits = {"clean": module(ids).logits[0]}
        for handle in handles:
            handle.remove()
        x, y = seen["x"][0, first:], seen["y"][0, first:]
        h = x @ w_enc.T + b_enc
        a = h.clamp(min=0)
        if k is not None:
            a = torch.where(h >= h.topk(k, dim=1).values[:, -1:], a, 0.0)
        guess = a @ w_dec + b_out
        l0 += (a != 0).sum(1).tolist()
        xs.append(y)
        errors.append(y - guess)
        for name, value in (("spliced", guess), ("ablated", torch.zeros_like(guess))):

            def put(m, args, out, value=value):
                changed = first_of(out).clone()
                changed[0, first:] = value
                return (changed, *out[1:]) if isinstance(out, tuple) else changed

            handle = write(module).register_forward_hook(put)
            with torch.no_grad():
                logits[name] = module(ids).logits[0]
            handle.remove()
        log_p = {name: value.log_softmax(-1) for name, value in logits.items()}
        for position in range(first, ids.shape[1] - 1):
            counts += 1
            for name, value in log_p.items():
                sums[f"ce_{name}"] -= value[position, ids[0, position + 1]].item()
                if name != "clean":
                    p = log_p["clean"][position]
                    sums[f"kl_{name}"] += (p.exp() * (p - value[position])).sum().item()
    y, error = torch.cat(xs), torch.cat(errors)
    mean = {name: value / counts for name, value in sums.items()}
    return mean | {
        "n_tokens": len(y),
        "n_predictions": counts,
        "l0_mean": sum(l0) / len(l0),
        "l0_median": quantile(l0, 0.5),
        "l0_p90": quantile(l0, 0.9),
        "mean_squared_error": error.square().sum(1).mean().item(),
        "explained_variance": 1 - (error.square().sum() / (y - y.mean(0)).square().sum()).item(),
        "ce_recovered": (mean["ce_ablated"] - mean["ce_spliced"]) / (mean["ce_ablated"] - mean["ce_clean"]),
        "kl_score": (mean["kl_ablated"] - mean["kl_spliced"]) / mean["kl_ablated"],
        "n_terms": 1,
    }


def first_of(output):
    return output[0] if isinstance(output, tuple) else output


def output_of(module, args, output):
    return first_of(output)


def normalized_input_of(module, args, output):
    x = args[0]
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + module.eps).sqrt()


WHERE = {
    "relu": {
        "read": lambda m: m.transformer.h[0],
        "write": lambda m: m.transformer.h[0],
        "into": output_of,
    },
    "topk": {
        "read": lambda m: m.transformer.h[1],
        "write": lambda m: m.transformer.h[1],
        "into": output_of,
        "k": 8,
    },
    "transcoder": {
        "read": lambda m: m.transformer.h[1].ln_2,
        "write": lambda m: m.transformer.h[1].mlp,
        "into": normalized_input_of,
    },
}


def doubled(model, dictionary):
    """Return both in float64."""
    module = copy.deepcopy(model.module).double()
    return replace(model, module=module), load_dictionary(dictionary.config.path, device="cpu", dtype="float64")


# Norms are computed in float32 in any case, and so is TopK. Random models make shares large, and firings next to zero.
CASES = [("relu", True, 1e-9), ("transcoder", True, 1e-6), *((kind, False, 2e-4) for kind in WHERE)]


@pytest.mark.parametrize("prepend_bos", [True, False], ids=["BOS", "no BOS"])
@pytest.mark.parametrize(("kind", "double", "tolerance"), CASES)
def test_figures_are_those_of_a_float64_reference(gpt2, dictionaries, contexts, kind, prepend_bos, double, tolerance):
    table = contexts(gpt2, prepend_bos=prepend_bos)
    assert len({len(table.tokens(number)[0]) for number in range(len(table))}) > 1, "there is padding"
    expected = reference(gpt2.module, dictionaries[kind], table, **WHERE[kind])
    model, dictionary = doubled(gpt2, dictionaries[kind]) if double else (gpt2, dictionaries[kind])
    found = evaluate(model, {kind: dictionary}, table)[kind]
    assert asdict(found) == pytest.approx(expected, rel=tolerance)


def test_dictionaries_measured_together_have_the_figures_they_have_alone(model, dictionaries, contexts):
    table = contexts(model)
    together = evaluate(model, dictionaries, table)
    assert together["jumprelu"] == evaluate(model, {"jumprelu": dictionaries["jumprelu"]}, table)["jumprelu"]
    assert together["attention"].n_tokens == table.n_tokens
    assert together["attention"].n_predictions == table.n_tokens - len(table)


def plain(dictionary, w_enc_fd, w_dec_fo):
    config = replace(dictionary.config, n_features=len(w_enc_fd))
    return replace(
        dictionary,
        config=config,
        encoder=LinearEncoder(w_enc_fd, torch.zeros(len(w_enc_fd)), JumpReLU(torch.zeros(len(w_enc_fd)))),
        decoder=LinearDecoder(w_dec_fo, torch.zeros(w_dec_fo.shape[1])),
    )


def test_the_identity_recovers_everything(model, dictionaries, contexts):
    both_ways_fd = torch.cat([torch.eye(32), -torch.eye(32)])
    identity = plain(dictionaries["relu"], both_ways_fd, both_ways_fd)
    found = evaluate(model, {"identity": identity}, contexts(model))["identity"]
    assert found.l0_mean == pytest.approx(32)
    assert found.mean_squared_error == pytest.approx(0, abs=1e-9)
    assert found.explained_variance == pytest.approx(1)
    assert found.ce_recovered == pytest.approx(1, abs=1e-5)
    assert found.kl_score == pytest.approx(1, abs=1e-5)
    assert found.ce_spliced == pytest.approx(found.ce_clean, rel=1e-6)


def test_zeros_recover_nothing(model, dictionaries, contexts):
    dictionary = dictionaries["relu"]
    silent = plain(dictionary, dictionary.encoder.w_enc_fd, torch.zeros_like(dictionary.decoder.w_dec_fo))
    found = evaluate(model, {"silent": silent}, contexts(model))["silent"]
    assert (found.ce_recovered, found.kl_score) == (0.0, 0.0)
    assert found.ce_spliced == found.ce_ablated != found.ce_clean


def test_sums_of_parts_are_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    y_no, guess_no, f_nf = (torch.randn(100, 8, generator=generator) for _ in range(3))
    whole, parts = Reconstruction(), Sums()
    whole.add((f_nf > 0).sum(1), y_no, guess_no)
    for rows in (slice(0, 3), slice(3, 70), slice(70, 100)):
        part = Sums()
        part.reconstruction.add((f_nf[rows] > 0).sum(1), y_no[rows], guess_no[rows])
        parts.merge(part)
    for figure in ("tokens", "l0_mean", "mean_squared_error", "explained_variance"):
        assert getattr(parts.reconstruction, figure) == pytest.approx(getattr(whole, figure))
    assert parts.reconstruction.l0_quantile(0.9) == whole.l0_quantile(0.9) == quantile((f_nf > 0).sum(1).tolist(), 0.9)


def test_what_has_no_variance_has_no_share():
    sums = Reconstruction()
    sums.add(torch.full((4,), 2), torch.zeros(4, 3), torch.ones(4, 3))
    assert sums.explained_variance is None
    assert Sums(reconstruction=sums).losses.predictions == 0


def test_an_encoder_is_refused(models, gpt2, dictionaries, contexts):
    with pytest.raises(ModelWithoutHead) as error:
        evaluate(models["bert"], {"relu": dictionaries["relu"]}, contexts(gpt2))
    assert "no head" in error.value.cause


def test_numbers_that_are_not_finite_are_named(gpt2, dictionaries, contexts):
    dictionary = dictionaries["relu"]
    broken = plain(dictionary, dictionary.encoder.w_enc_fd, torch.full_like(dictionary.decoder.w_dec_fo, 1e38))
    with pytest.raises(ActivationsNotFinite) as error:
        evaluate(gpt2, {"broken": broken}, contexts(gpt2))
    assert error.value.details["source"] == "broken"
