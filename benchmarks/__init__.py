"""Every number that a document quotes, produced by `make bench`: one JSON line per benchmark under results/."""

import inference  # noqa: F401  before torch, whose threads it tells how to wait
