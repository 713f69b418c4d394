import pytest
import torch

from kernels.cooccurrence import cooccurrence, cpu, reference

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.cooccurrence import triton as fused

IMPLEMENTATIONS = {"cpu": cpu.cooccurrence, "triton": fused.cooccurrence, "dispatch": cooccurrence}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned, monkeypatch):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    monkeypatch.setattr(cpu, "_PAIRS_AT_ONCE", 40)
    return IMPLEMENTATIONS[request.param]


def rows(n_tokens: int, n_features: int, most: int, device):
    generator = torch.Generator().manual_seed(n_tokens)
    lengths = torch.randint(0, most + 1, (n_tokens,), generator=generator)
    parts = [torch.randperm(n_features, generator=generator)[:n] for n in lengths.tolist()]
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return indptr.to(device), torch.cat([torch.zeros(0, dtype=torch.int64), *parts]).to(device)


@pytest.mark.parametrize(("n_tokens", "n_features", "most"), [(0, 4, 0), (3, 9, 1), (20, 12, 5), (6, 100, 90)])
def test_pairs_are_those_of_a_dense_product(implementation, device, n_tokens, n_features, most):
    given = rows(n_tokens, n_features, most, device)
    table_ff = torch.full((n_features, n_features), 3, dtype=torch.int32, device=device)
    wanted_ff = table_ff.clone()
    implementation(table_ff, *given)
    reference.cooccurrence(wanted_ff, *given)
    assert torch.equal(table_ff, wanted_ff)


def test_batches_add_up(implementation, device):
    first, second = rows(7, 12, 6, device), rows(9, 12, 6, device)
    table_ff = torch.zeros(12, 12, dtype=torch.int32, device=device)
    together_ff = table_ff.clone()
    for given in (first, second):
        implementation(table_ff, *given)
    joined = torch.cat([first[0], second[0][1:] + first[0][-1]]), torch.cat([first[1], second[1]])
    implementation(together_ff, *joined)
    assert torch.equal(table_ff, together_ff)
