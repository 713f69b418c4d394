"""Run the small pass in a process of its own: `python -m ... FOLDER WORKDIR [SECONDS [BYTES]]`.

It waits so many seconds (0.02) whenever a few tokens are encoded, to be killed in time, and writes no file larger than
so many bytes. It prints a line of JSON: the digests of what came out, or the error.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from pathlib import Path

import torch

from inference.dashboards.results import PassResult
from inference.errors import FacetError
from tests.inference.dashboards.conftest import all_arrays, make_setting


def digests(result: PassResult) -> dict[str, str]:
    """Return the digest of every array of a result."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in all_arrays(result).items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, workdir, *more = sys.argv[1:]
    seconds = float(more[0]) if more else 0.02
    Path(folder).mkdir(exist_ok=True)
    setting = make_setting(Path(folder))
    if len(more) > 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(more[1]), resource.RLIM_INFINITY))
    try:
        result = setting.run(workdir, progress=lambda moment: time.sleep(seconds if moment.phase == "encode" else 0))
        said = {"digests": digests(result), "resumed": result.measurements["resumed_shards"]}
    except FacetError as error:
        said = {"code": error.code, "cause": error.cause, "remedy": error.remedy}
    sys.stdout.write(json.dumps(said) + "\n")
