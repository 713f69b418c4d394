"""Kernels run on the GPU where there is one, and otherwise in Triton's interpreter (see tests/__init__.py)."""

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def poisoned(monkeypatch):
    """Fill new tensors with NaN, so that an output that is never written shows."""
    empty = torch.empty

    def poisoned_empty(*size, **options):
        tensor = empty(*size, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor.fill_(-1)

    monkeypatch.setattr(torch, "empty", poisoned_empty)
