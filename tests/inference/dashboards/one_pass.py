"""Run the small pass in a process of its own, slowly enough to be killed: `python -m ... FOLDER WORKDIR`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from tests.inference.dashboards.conftest import make_setting

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, workdir = map(Path, sys.argv[1:])
    make_setting(folder).run(workdir, progress=lambda moment: time.sleep(0.02 if moment.phase == "encode" else 0))
