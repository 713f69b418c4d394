import pytest
import torch

from demo import readme
from demo.measure import CONTEXTS, Tally
from inference.dictionaries.sparse import SparseActivations


def sparse(f_NF: torch.Tensor) -> SparseActivations:
    return SparseActivations.from_mask(f_NF, f_NF > 0)


@pytest.mark.parametrize("offset", [0.0, 20.0], ids=["zero mean", "far from zero"])
@pytest.mark.parametrize("batches", [1, 7])
def test_explained_variance_is_against_the_mean_of_the_whole_sample(offset, batches):
    generator = torch.Generator().manual_seed(0)
    y_ND = torch.randn(700, 16, generator=generator) + offset
    guess_ND = y_ND + 0.5 * torch.randn(700, 16, generator=generator)
    tally = Tally(4)
    for y, guess in zip(y_ND.chunk(batches), guess_ND.chunk(batches), strict=True):
        tally.add(sparse(torch.ones(len(y), 4)), y, guess)
    expected = 1 - (y_ND - guess_ND).square().sum() / (y_ND - y_ND.mean(0)).square().sum()
    assert tally.result()["explained_variance"] == pytest.approx(expected.item(), abs=1e-4)


def test_sparsity_counts_tokens_and_features():
    f_NF = torch.zeros(10, 5)
    f_NF[:, 0] = 1.0
    f_NF[0, 1:3] = 2.0
    tally = Tally(5)
    tally.add(sparse(f_NF), torch.randn(10, 3), torch.randn(10, 3))
    result = tally.result()
    assert (result["l0_mean"], result["l0_median"], result["l0_p90"]) == (1.2, 1.0, 1.0)
    assert result["dead_share"] == pytest.approx(2 / 5)
    assert result["dense_share"] == pytest.approx(1 / 5)


def test_diversity_tells_one_token_from_many():
    tally = Tally(3)
    # Feature 0 peaks on one token only, feature 1 on four in turn, feature 2 in too few contexts to tell.
    for context in range(CONTEXTS):
        f_BTF = torch.zeros(1, 6, 3)
        f_BTF[0, 1, 0] = 1.0
        f_BTF[0, 2, 1] = 1.0
        f_BTF[0, 3, 2] = float(context == 0)
        tally.add_peaks(f_BTF, torch.tensor([[0, 7, 10 + context % 4, 9, 9, 9]]))
    found = tally._diversity()
    assert found["features_with_contexts"] == 2
    assert found["no_token_has_half"] == pytest.approx(1 / 2)
    assert found["three_tokens_or_more"] == pytest.approx(1 / 2)


def test_strongest_contexts_are_kept():
    tally = Tally(1)
    for context in range(2 * CONTEXTS):
        tally.add_peaks(torch.full((1, 1, 1), float(context + 1)), torch.tensor([[context]]))
    assert sorted(tally.token_FX[0].tolist()) == list(range(CONTEXTS, 2 * CONTEXTS))


def test_missed_aims_are_named():
    good = {"l0_mean": 30.0, "explained_variance": 0.9, "ce_recovered": 0.99, "dead_share": 0.0}
    poor = good | {"explained_variance": 0.5}
    assert readme._verdict({"a": good}) == "Every aim is met."
    assert readme._verdict({"a": good, "b": poor}) == "Missed aims: Explained variance of `b`."
