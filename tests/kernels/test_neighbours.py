import pytest
import torch

from kernels.neighbours import neighbours, reference


def unit_rows(n: int, d: int, *, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def check(unit_fd, k, found):
    values_fk, indices_fk = found[0].double().cpu(), found[1].cpu()
    unit_fd = unit_fd.double().cpu()
    wanted_fk, wanted_indices_fk = reference.neighbours(unit_fd, k)
    torch.testing.assert_close(values_fk, wanted_fk, atol=1e-5, rtol=1e-5)
    assert torch.equal(indices_fk == -1, wanted_indices_fk == -1)
    known_fk = indices_fk >= 0
    products_fk = (unit_fd @ unit_fd.T).gather(1, indices_fk.clamp(min=0))
    torch.testing.assert_close(products_fk[known_fk], values_fk[known_fk], atol=1e-5, rtol=1e-5)
    rows_f = torch.arange(len(unit_fd))
    assert not (indices_fk == rows_f[:, None]).any()


@pytest.mark.parametrize("n", [2, 5, 257])
def test_neighbours_are_those_of_all_pairs(device, poisoned, n):
    unit_fd = unit_rows(n, 24).to(device)
    check(unit_fd, 8, neighbours(unit_fd, 8))


def test_neighbours_of_wide_rows_are_screened(device, poisoned):
    unit_fd = unit_rows(300, 640).to(device)
    unit_fd[17] = unit_fd[16] * (1 - 1e-7)
    check(unit_fd, 8, neighbours(unit_fd, 8))


def test_more_duplicates_than_places_and_rows_of_zeros(device, poisoned):
    unit_fd = unit_rows(60, 16).to(device)
    unit_fd[10:40] = unit_fd[10]
    unit_fd[50] = 0
    check(unit_fd, 8, neighbours(unit_fd, 8))


def test_a_part_of_the_rows_has_the_same_neighbours(device, poisoned):
    unit_fd = unit_rows(90, 16).to(device)
    part, whole = neighbours(unit_fd, 5, rows=slice(30, 47)), neighbours(unit_fd, 5)
    assert torch.equal(part[1], whole[1][30:47])
