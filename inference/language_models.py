"""Language models: loading from a folder or a hub id through transformers, tokenizing, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from inference.dictionaries.config import DictionaryConfig, ModelShape, check_fit
from inference.digests import files_sha256, weights_of
from inference.errors import InvalidInput, NotFound
from inference.hook_points import FAMILIES, Family, HookPoint, Site, UnknownHookPoint, family_of, owner_of, resolve
from inference.quick_modules import quicken
from inference.text import check_text, display, tiled, token_bytes
from inference.values import Tokens

# A run tells its own progress; commands print what they did.
disable_progress_bar()

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


class UnknownModel(NotFound):
    """Neither a folder with a config.json nor a hub id that can be read from here."""

    code = "unknown-model"


class UnsupportedModel(InvalidInput):
    """An architecture without an entry in the table of hook points."""

    code = "unsupported-model"


class ModelWithoutTokenizer(InvalidInput):
    """A model folder that has weights and no tokenizer."""

    code = "model-without-tokenizer"


class DamagedModel(InvalidInput):
    """Weights that are truncated, incomplete, or not numbers."""

    code = "damaged-model"


class ModelWithoutHead(InvalidInput):
    """An encoder, which gives activations and no next token."""

    code = "model-without-head"


class PromptTooLong(InvalidInput):
    """More tokens than fit; `limit`, `n` and `cut_at`, the characters that do fit, are in `details`."""

    code = "prompt-too-long"
    status = 413


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanguageModel:
    """A language model with its tokenizer; `module` is in evaluation mode and its weights take no gradient.

    It is causal, or an encoder (`family.causal` is false), which gives activations and nothing else. `companions` are
    other models that read the same token ids, under the names that hook points have before their slash: what is asked
    of `NAME/blocks.1.hook_resid_pre` is asked of them.
    """

    name: str
    path: str
    revision: str
    sha256: str
    family: Family
    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    token_bytes: tuple[bytes, ...]
    n_bytes: int
    companions: Mapping[str, LanguageModel] = field(default_factory=dict)

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the language model, inside that of a model which also takes images."""
        return self.module.config.get_text_config()

    @property
    def n_layers(self) -> int:
        return self.config.num_hidden_layers

    @property
    def n_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def d_model(self) -> int:
        return self.config.hidden_size

    @property
    def d_head(self) -> int:
        return getattr(self.config, "head_dim", None) or self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """The number of neurons of an MLP; in a mixture of experts, of one expert."""
        names = ("moe_intermediate_size", "intermediate_size", "n_inner")
        return next((size for name in names if (size := getattr(self.config, name, None))), 4 * self.d_model)

    @property
    def d_vocab(self) -> int:
        return self.config.vocab_size

    @property
    def context_size(self) -> int:
        return self.config.max_position_embeddings

    @property
    def bos_id(self) -> int | None:
        """The token that begins every text: BOS, or an encoder's [CLS]."""
        first = self.tokenizer.bos_token_id if self.family.causal else self.tokenizer.cls_token_id
        return self.config.bos_token_id if first is None else first

    @property
    def eos_ids(self) -> frozenset[int]:
        eos = self.module.generation_config.eos_token_id if self.family.causal else None
        return frozenset([eos] if isinstance(eos, int) else eos or [])

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    @property
    def base(self) -> torch.nn.Module:
        """The model without its unembedding."""
        return self.module.get_submodule(self.family.base)

    @property
    def unembedding(self) -> torch.nn.Module:
        """The module that turns the last residual stream into logits; raise ModelWithoutHead for an encoder."""
        self.check_causal()
        return self.module.get_output_embeddings()

    def check_causal(self) -> None:
        """Raise ModelWithoutHead unless the model predicts next tokens."""
        if not self.family.causal:
            raise ModelWithoutHead(
                f"{self.name} is an encoder ({self.family.name}): it has no head that predicts tokens.",
                "Read its activations, or choose a causal model.",
                family=self.family.name,
            )

    @property
    def shape(self) -> ModelShape:
        """What dictionaries must fit."""
        return ModelShape(
            name=self.name,
            family=self.family.name,
            n_layers=self.n_layers,
            d_model=self.d_model,
            d_heads=self.n_heads * self.d_head,
            d_mlp=self.d_mlp,
            d_vocab=self.d_vocab,
        )

    def check_fit(self, config: DictionaryConfig) -> None:
        """Raise DictionaryDoesNotFit or UnknownHookPoint unless a dictionary fits this model and its companions."""
        check_fit(config, self.shape, {name: companion.shape for name, companion in self.companions.items()})

    def home(self, hook_name: str) -> LanguageModel:
        """Return the model that has a hook point, this one or a companion; raise UnknownHookPoint for another."""
        owner = owner_of(hook_name)
        if owner in ("", self.name):
            return self
        if owner not in self.companions:
            raise UnknownHookPoint(
                f"{hook_name} is of the model {owner}, which is not loaded beside {self.name}.",
                f"Give {owner} as its companion.",
                hook_point=hook_name,
            )
        return self.companions[owner]

    def resolve(self, hook_name: str) -> tuple[HookPoint, Site]:
        """Return a hook point, of this model or of a companion, and its site there; raise UnknownHookPoint."""
        home = self.home(hook_name)
        return resolve(home.family, hook_name, n_layers=home.n_layers, n_heads=home.n_heads)

    def width(self, hook_name: str) -> int:
        """Return the width of the activations at a hook point."""
        home, (point, site) = self.home(hook_name), self.resolve(hook_name)
        heads = home.d_head if point.head is not None else home.n_heads * home.d_head
        return {"model": home.d_model, "heads": heads, "mlp": home.d_mlp}[site.width]

    def vocabulary(self) -> list[str]:
        """Return each token's text for display; bytes that are no whole character read \\xNN."""
        return [display(data) for data in self.token_bytes]

    def tokenize(
        self, text: str, *, prepend_bos: bool = True, max_tokens: int | None = None, truncate: bool = False
    ) -> Tokens:
        """Tokenize with character offsets that tile the text, behind a BOS where the model has one.

        `max_tokens` (at most the context size, which is the default) counts the BOS. Raises EmptyText, InvalidText,
        and PromptTooLong unless `truncate` asks to keep what fits.
        """
        check_text(text)
        limit = min(max_tokens or self.context_size, self.context_size)
        has_bos = prepend_bos and self.bos_id is not None
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, starts, ends = encoding["input_ids"], *tiled(encoding["offset_mapping"])
        room = limit - has_bos
        if len(ids) > room:
            if not truncate:
                raise _too_long(limit, len(ids) + has_bos, ends[room - 1])
            # A character whose bytes straddle the limit goes as a whole.
            while room and starts[room] < ends[room - 1]:
                room -= 1
            ids, starts, ends = ids[:room], starts[:room], ends[:room]
            text = text[: ends[-1]]
        if has_bos:
            ids, starts, ends = [self.bos_id, *ids], [0, *starts], [0, *ends]
        return Tokens(text=text, ids=tuple(ids), starts=tuple(starts), ends=tuple(ends), has_bos=has_bos)

    def ids_bt(self, tokens: Tokens) -> torch.Tensor:
        """Return the tokens as a batch of one on the model's device."""
        return torch.tensor([tokens.ids], device=self.device)


def load_language_model(
    path_or_id: str | Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | torch.device | None = None,
) -> LanguageModel:
    """Load a model from a folder in Hugging Face layout, or from a hub by id.

    Raises UnknownModel, UnsupportedModel, ModelWithoutTokenizer or DamagedModel before anything is half loaded. The
    revision of a folder is the SHA-256 of its weights, that of a hub id the commit.
    """
    source = str(path_or_id)
    folder = Path(path_or_id) if Path(path_or_id).is_dir() else None
    config = _read_config(source, folder, revision)
    family = family_of(config.model_type, config)
    if family is None:
        raise UnsupportedModel(
            f"Facet has no hook points for the architecture {config.model_type!r}.",
            f"Supported are: {', '.join(sorted(FAMILIES))}.",
            architecture=config.model_type,
            supported=sorted(FAMILIES),
        )
    tokenizer = _load_tokenizer(source, folder, revision)
    module = _load_module(source, family, revision, dtype)
    sha256 = files_sha256(weights_of(folder)) if folder else ""
    quicken(module)
    module.to(device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return LanguageModel(
        name=name or Path(source).name,
        path=source,
        revision=sha256 or getattr(module.config, "_commit_hash", None) or revision or "",
        sha256=sha256,
        family=family,
        module=module.eval().requires_grad_(False),
        tokenizer=tokenizer,
        token_bytes=token_bytes(tokenizer, module.config.get_text_config().vocab_size),
        n_bytes=module.get_memory_footprint(),
    )


def _read_config(source: str, folder: Path | None, revision: str | None) -> PreTrainedConfig:
    if folder is not None and not (folder / "config.json").is_file():
        raise UnknownModel(f"{source} holds no config.json.", "Name a folder that transformers' save_pretrained wrote.")
    try:
        return AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        if folder is not None:
            raise UnsupportedModel(
                f"{source}/config.json: {_first_line(error)}", "Repair the model's folder."
            ) from error
        raise UnknownModel(
            f"There is no model at {source!r}.",
            "Check the folder's path; an id on a hub needs a network and, for gated models, a token.",
            path=source,
        ) from error


def _load_tokenizer(source: str, folder: Path | None, revision: str | None) -> PreTrainedTokenizerBase:
    missing = ModelWithoutTokenizer(
        f"{source} holds no tokenizer that gives character offsets.",
        "Add its tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained writes it).",
        path=source,
    )
    if folder is not None and not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise missing
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise missing from error
    if not tokenizer.is_fast:
        raise missing
    return tokenizer


def _load_module(source: str, family: Family, revision: str | None, dtype: str) -> PreTrainedModel:
    options = {"revision": revision, "dtype": getattr(torch, dtype), "output_loading_info": True}
    try:
        loaded: Any = (
            AutoModelForCausalLM.from_pretrained(source, **options)
            if family.causal
            else AutoModel.from_pretrained(source, add_pooling_layer=False, **options)
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _damaged(source, _first_line(error)) from error
    module, report = loaded
    # transformers fills what is missing with random numbers and a warning.
    if missing := sorted(report["missing_keys"]):
        raise _damaged(source, f"{len(missing)} tensors are missing, the first is {missing[0]}", tensor=missing[0])
    for tensor_name, tensor in module.named_parameters():
        if not tensor.isfinite().all():
            raise _damaged(source, f"{tensor_name} has values that are not finite", tensor=tensor_name)
    return module


def _damaged(source: str, why: str, **details: str) -> DamagedModel:
    return DamagedModel(f"The weights of {source} cannot be used: {why}.", "Fetch or write them again.", **details)


def _too_long(limit: int, n: int, cut_at: int) -> PromptTooLong:
    return PromptTooLong(
        f"The text has {n} tokens; the limit is {limit}.",
        f"Shorten it, or cut it after its first {cut_at} characters.",
        limit=limit,
        n=n,
        cut_at=cut_at,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
