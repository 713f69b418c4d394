"""What was tried for encoding on CPUs and is not used, measured all the same so that it can be looked at again.

Shape suffixes: T tokens, D width, F features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def weights_first(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Tensor:
    """Return the values above their threshold of W X^T, feature by feature."""
    h_ft = torch.addmm(b_f[:, None], w_fd, x_td.T)
    places = np.flatnonzero(h_ft.numpy() > threshold_f.numpy()[:, None])
    return h_ft.view(-1)[torch.from_numpy(places)]
