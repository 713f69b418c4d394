"""What benchmarks run on: the demonstration's weights where they are, or else random ones of the same shapes.

Random weights cost the same arithmetic, but what fires is not distributed as in trained dictionaries; results say
which they were measured on.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from inference.dashboards.results import DocumentRef
from inference.dictionaries import load_dictionary
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel, load_language_model

ROOT = Path(__file__).parent.parent
STAND_INS = ROOT / ".local" / "benchmarks" / "weights"
BOS = "<|endoftext|>"
WIDTH, _FEATURES, _K = 192, 2048, 32
# The standard library has about twice as many.
_STANDARD_TOKENS = 5_000_000
_SOURCES = {
    "1-res-topk": ("topk", "blocks.1.hook_resid_post", None),
    "2-res-jump": ("jumprelu", "blocks.2.hook_resid_post", None),
    "2-att-topk": ("topk", "blocks.2.attn.hook_z", None),
    "2-tc-topk": ("topk", "blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model with its dictionaries, where they lie, and which weights these are."""

    model: LanguageModel
    dictionaries: Mapping[str, Dictionary]
    which: str
    model_folder: Path
    dictionary_folders: Mapping[str, Path]


def load() -> Weights:
    """Load the demonstration's weights, or make random ones once and load them."""
    demo = ROOT / "demo"
    if (demo / "model" / "config.json").is_file() and any((demo / "dictionaries").glob("*/cfg.json")):
        return _loaded(demo / "model", demo / "dictionaries", "the demonstration's weights")
    if not (STAND_INS / "model" / "config.json").is_file():
        _make_model(STAND_INS / "model")
    for seed, (source, (architecture, hook_in, hook_out)) in enumerate(_SOURCES.items()):
        folder = STAND_INS / "dictionaries" / source
        if not (folder / "cfg.json").is_file():
            _make_dictionary(folder, architecture, hook_in, hook_out, seed)
    return _loaded(STAND_INS / "model", STAND_INS / "dictionaries", "random weights: the demonstration's are absent")


def load_wide() -> Weights:
    """Make, once, a random model of the size of GPT-2 small with a random TopK dictionary at two thirds of its depth.

    The text is read by the tokenizer of `load`: ids lie in the first part of the vocabulary.
    """
    folder, source = STAND_INS / "wide", "7-res-topk"
    if not (folder / "model" / "config.json").is_file():
        _make_wide_model(folder / "model")
    random_topk(folder / "dictionaries" / source, width=768, n_features=24_576, hook="blocks.7.hook_resid_post")
    return _loaded(folder / "model", folder / "dictionaries", "random weights")


def documents(limit: int | None = None, *, with_packages: bool = False) -> list[DocumentRef]:
    """Return the standard library's files, the text that every machine has; `with_packages`, those installed too."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path for path in root.rglob("*.py") if "-packages" not in str(path))[:limit]
    documents = _references(root, paths, 0)
    if with_packages:
        root = Path(sysconfig.get_paths()["purelib"])
        documents += _references(root, sorted(root.rglob("*.py")), len(documents))
    return documents


def documents_for(n_tokens: int) -> list[DocumentRef]:
    """Return text of at least so many tokens, up to some 80 million."""
    return documents(with_packages=n_tokens > _STANDARD_TOKENS)


def _references(root: Path, paths: list[Path], first: int) -> list[DocumentRef]:
    return [
        DocumentRef(ordinal=number, name=str(path.relative_to(root)), path=str(path))
        for number, path in enumerate(paths, first)
    ]


def prompt(model: LanguageModel, n_tokens: int) -> str:
    """Return text of the standard library that the model reads as about so many tokens."""
    text = Path(json.__file__).read_text(encoding="utf-8")
    return model.tokenize(text, max_tokens=n_tokens, truncate=True).text


def _loaded(model: Path, dictionaries: Path, which: str) -> Weights:
    folders = {path.parent.name: path.parent for path in sorted(dictionaries.glob("*/cfg.json"))}
    return Weights(
        model=load_language_model(model, name="facet-demo"),
        dictionaries={source: load_dictionary(folder) for source, folder in folders.items()},
        which=which,
        model_folder=model,
        dictionary_folders=folders,
    )


def _make_model(folder: Path) -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train([document.path for document in documents(150)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=BOS, unk_token=BOS)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=256,
        n_embd=WIDTH,
        n_layer=4,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    tokenizer.save_pretrained(folder)
    GPT2LMHeadModel(config).save_pretrained(folder)


def _make_wide_model(folder: Path) -> None:
    load().model.tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0)).save_pretrained(folder)


def random_topk(folder: Path, *, width: int, n_features: int, hook: str) -> Path:
    """Write, unless it is there, a random TopK dictionary: rows of length one, both ways the same."""
    if (folder / "cfg.json").exists():
        return folder
    generator = torch.Generator().manual_seed(n_features)
    w_fd = torch.nn.functional.normalize(torch.randn(n_features, width, generator=generator), dim=1)
    biases = {"b_enc": torch.zeros(n_features), "b_dec": torch.zeros(width)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"W_enc": w_fd.T.contiguous(), "W_dec": w_fd, **biases}, folder / "sae_weights.safetensors")
    config = {
        "architecture": "topk",
        "k": _K,
        "d_in": width,
        "d_sae": n_features,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"model_name": "facet-demo", "hook_name": hook, "prepend_bos": True},
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def _make_dictionary(folder: Path, architecture: str, hook_in: str, hook_out: str | None, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w_dec_fd = torch.nn.functional.normalize(torch.randn(_FEATURES, WIDTH, generator=generator), dim=1)
    tensors = {
        "W_enc": w_dec_fd.T.contiguous(),
        "W_dec": w_dec_fd,
        "b_enc": torch.zeros(_FEATURES),
        "b_dec": torch.zeros(WIDTH),
    }
    config = {
        "architecture": architecture,
        "d_in": WIDTH,
        "d_sae": _FEATURES,
        "dtype": "float32",
        "apply_b_dec_to_input": hook_out is None,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook_in.endswith("hook_z") else "none",
        "metadata": {"model_name": "facet-demo", "hook_name": hook_in, "prepend_bos": True},
    }
    if architecture == "topk":
        config |= {"k": _K, "rescale_acts_by_decoder_norm": False}
    else:
        # The residual stream of a random model is about 1.5 long at this depth: 32 of 2,048 projections exceed this.
        tensors["threshold"] = torch.full((_FEATURES,), 0.235)
    if hook_out is not None:
        config |= {"d_out": WIDTH}
        config["metadata"] |= {"hook_name_out": hook_out}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config, indent=1))
