"""Lets SAEDashboard's Neuronpedia runner write batches for a tiny random model, in the environment that has it.

`python -m tests.interop.saedashboard MODEL SAE TEXT OUT`: the tokenizer of a model's folder, a dictionary in SAELens'
layout, a folder of JSON lines with texts, and where to write.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

N_LAYERS, D_MODEL, CONTEXT, D_VOCAB = 3, 32, 32, 512
BOS, HOOK = "<|endoftext|>", "blocks.1.hook_resid_post"
N_PROMPTS = 48
PER_BATCH = 24


def main(model: str, sae: str, text: str, out: str) -> None:
    """Run the runner as its command does; only the model does not come from a hub."""
    from sae_dashboard.neuronpedia.neuronpedia_runner import NeuronpediaRunner
    from sae_dashboard.neuronpedia.neuronpedia_runner_config import NeuronpediaRunnerConfig
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformers import PreTrainedTokenizerFast

    def tokenizer() -> PreTrainedTokenizerFast:
        # Saved once more, since TransformerLens loads it again and this transformers is older than what wrote it.
        special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), BOS)
        PreTrainedTokenizerFast(tokenizer_file=str(Path(model) / "tokenizer.json"), **special).save_pretrained(own)
        return PreTrainedTokenizerFast.from_pretrained(own)

    own = str(Path(out) / "tokenizer")

    class Runner(NeuronpediaRunner):
        def _extract_model_info(self) -> None:
            # A dictionary that SAELens loads from a folder forgets what it was trained on.
            self.sae.cfg.metadata.model_name, self.sae.cfg.metadata.hook_name = "tiny", HOOK
            super()._extract_model_info()

        def _initialize_model(self) -> None:
            torch.manual_seed(0)
            config = HookedTransformerConfig(
                n_layers=N_LAYERS, d_model=D_MODEL, n_ctx=CONTEXT, d_head=8, n_heads=4, d_vocab=D_VOCAB, act_fn="gelu",
                model_name="tiny", device="cpu", default_prepend_bos=True, init_weights=True,
            )  # fmt: skip
            self.model = HookedSAETransformer(config, tokenizer=tokenizer())
            self.hook_name = self.sae.cfg.metadata["hook_name"]

    runner = Runner(
        NeuronpediaRunnerConfig(
            sae_set="res-tiny",
            sae_path=sae,
            from_local_sae=True,
            outputs_dir=str(Path(out)),
            huggingface_dataset_path=text,
            n_prompts_total=N_PROMPTS,
            n_tokens_in_prompt=CONTEXT,
            n_prompts_in_forward_pass=8,
            n_features_at_a_time=PER_BATCH,
            top_acts_group_size=8,
            quantile_group_size=3,
            model_dtype="float32",
            sae_dtype="float32",
            sae_device="cpu",
            model_device="cpu",
            activation_store_device="cpu",
        )
    )
    runner.run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
