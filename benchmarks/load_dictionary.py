"""Loading a large dictionary: seconds, and the peak of memory against the size of its file.

65,536 JumpReLU features of width 2,304 (the size of a Gemma Scope dictionary of 1.2 GB), random, in SAELens' layout.
A process of its own loads it, so that the peak is of nothing else: Linux' VmHWM, as getrusage counts the parent's too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.harness import Result

FEATURES, WIDTH = 65_536, 2_304
_LOAD = """
import json, re, sys, time
from pathlib import Path
import torch
from inference.dictionaries import load_dictionary, read_config
from inference.dictionaries.dictionary import load
torch.ones(8, 8) @ torch.ones(8, 8)
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before, started = peak(), time.perf_counter()
config = read_config(sys.argv[1])
read = time.perf_counter()
load(config, device="cpu")
print(json.dumps({"config": read - started, "load": time.perf_counter() - read, "peak": peak() - before}))
"""


def run() -> list[Result]:
    """Write the dictionary, load it once, and compare the peak with the file."""
    with tempfile.TemporaryDirectory() as folder:
        size = _write(Path(folder))
        done = subprocess.run([sys.executable, "-c", _LOAD, folder], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    ratio = measured["peak"] / size
    return [
        Result(
            name="load_dictionary_peak",
            value=round(ratio, 3),
            unit="times the file",
            aim="below 1.2",
            holds=ratio < 1.2,
            peer="size of the file in bytes",
            peer_value=float(size),
            n=1,
            details={
                "features": FEATURES,
                "width": WIDTH,
                "seconds": round(measured["load"], 2),
                "seconds_of_hashing": round(measured["config"], 2),
            },
        )
    ]


def _write(folder: Path) -> int:
    """Write the dictionary and return the bytes of its weights."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "W_enc": torch.randn(WIDTH, FEATURES, generator=generator),
        "W_dec": torch.randn(FEATURES, WIDTH, generator=generator),
        "b_enc": torch.zeros(FEATURES),
        "b_dec": torch.zeros(WIDTH),
        "threshold": torch.ones(FEATURES),
    }
    path = folder / "sae_weights.safetensors"
    save_file(tensors, path)
    metadata = {"hook_name": "blocks.12.hook_resid_post"}
    cfg = {"architecture": "jumprelu", "d_in": WIDTH, "d_sae": FEATURES, "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return path.stat().st_size
