"""SAEDashboard's side of the build: run as a module, in its own environment, with one argument, a JSON file.

It makes dashboards of tokens that it is given, in one of two ways. `neuronpedia`: as its Neuronpedia runner does
(`sae_dashboard.neuronpedia`), with the same layout, quantiles and batches of features, one JSON file per batch.
`readme`: as its README shows, with ten quantiles and the library's other defaults, 64 features and 256 prompts at a
time, one HTML page per batch. Prints a line of JSON: seconds of each batch, from tokens
and loaded weights to the file, and the peak memory of the process. Imports nothing of Facet.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.hooked import hooked_model


def main(path: str) -> None:
    spec = json.loads(Path(path).read_text())
    import numpy as np
    import torch
    from sae_lens import SAE

    torch.set_num_threads(spec["threads"])
    torch.set_grad_enabled(False)
    model = hooked_model(Path(spec["model"]))
    sae = SAE.load_from_disk(spec["dictionary"], device="cpu")
    if sae.cfg.architecture() == "topk":
        # SAEDashboard folds the decoder's norms and sae-lens refuses without this; the rows have length one, so that
        # it changes nothing.
        assert (sae.W_dec.norm(dim=1) - 1).abs().max() < 1e-2
        sae.cfg.rescale_acts_by_decoder_norm = True
    tokens = torch.from_numpy(np.load(spec["tokens"]).astype("int64"))
    out = Path(spec["out"])
    seconds, cpu = [], []
    for number in range(spec["batches"]):
        started, cpu_started = time.perf_counter(), time.process_time()
        size = spec["features_at_a_time"]
        features = list(range(number * size, (number + 1) * size))
        _WAYS[spec["way"]](model, sae, tokens, features, spec, out / f"batch-{number}")
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
    peak = 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    sizes = sum(file.stat().st_size for file in out.glob("batch-*"))
    found = {"seconds": seconds, "cpu_seconds": cpu, "peak_memory_bytes": peak, "bytes": sizes, "versions": _versions()}
    print(json.dumps(found))


def _neuronpedia(model: Any, sae: Any, tokens: Any, features: list[int], spec: dict[str, Any], path: Path) -> None:
    from sae_dashboard.components_config import (
        ActsHistogramConfig,
        Column,
        FeatureTablesConfig,
        LogitsHistogramConfig,
        LogitsTableConfig,
        SequencesConfig,
    )
    from sae_dashboard.layout import SaeVisLayoutConfig
    from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter
    from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner

    asked = NeuronpediaRunnerConfig(
        sae_set="", sae_path="", outputs_dir="", model_id="model", layer=0, np_set_name="set"
    )
    sequences = SequencesConfig(
        stack_mode="stack-all",
        buffer=None,
        compute_buffer=True,
        n_quantiles=asked.n_quantiles,
        top_acts_group_size=asked.top_acts_group_size,
        quantile_group_size=asked.quantile_group_size,
    )
    panels = (ActsHistogramConfig(), LogitsHistogramConfig(), LogitsTableConfig(), FeatureTablesConfig(n_rows=3))
    config = SaeVisConfig(
        hook_point=spec["hook_point"],
        features=features,
        minibatch_size_features=len(features),
        minibatch_size_tokens=asked.n_prompts_in_forward_pass,
        quantile_feature_batch_size=asked.quantile_feature_batch_size,
        device="cpu",
        feature_centric_layout=SaeVisLayoutConfig(columns=[Column(sequences, *panels)]),
        dtype="float32",
        ignore_tokens={model.tokenizer.bos_token_id},
    )
    data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    vocabulary = {number: token for token, number in model.tokenizer.get_vocab().items()}
    path.with_suffix(".json").write_text(NeuronpediaConverter.convert_to_np_json(model, data, asked, vocabulary))


def _readme(model: Any, sae: Any, tokens: Any, features: list[int], spec: dict[str, Any], path: Path) -> None:
    from sae_dashboard.data_writing_fns import save_feature_centric_vis
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner

    config = SaeVisConfig(
        hook_point=spec["hook_point"],
        features=features,
        minibatch_size_features=len(features),
        minibatch_size_tokens=256,
        device="cpu",
        dtype="float32",
        ignore_tokens={model.tokenizer.bos_token_id},
    )
    data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    save_feature_centric_vis(sae_vis_data=data, filename=path.with_suffix(".html"))


_WAYS = {"neuronpedia": _neuronpedia, "readme": _readme}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("sae-dashboard", "sae-lens", "transformer-lens", "torch", "transformers")}


if __name__ == "__main__":
    main(sys.argv[1])
