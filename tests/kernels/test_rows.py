import numpy as np
import pytest

from kernels import rows
from kernels.rows import true_places


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8,), (3, 5), (4, 8), (5, 1001)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_true_places_are_those_of_numpy(shape, share, monkeypatch):
    monkeypatch.setattr(rows, "_WORTH_TWO_LOOKS", 0)
    mask = np.random.default_rng(len(shape)).random(shape) < share
    assert np.array_equal(true_places(mask), np.flatnonzero(mask))
    assert np.array_equal(true_places(mask[..., ::-1]), np.flatnonzero(mask[..., ::-1]))
