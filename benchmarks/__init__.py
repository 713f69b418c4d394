"""Every number that a document quotes, produced by `make bench`: one JSON line per benchmark under results/."""
