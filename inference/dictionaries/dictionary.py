"""A dictionary at work: encode, encode chosen features, decode, error term, directions.

Every architecture is one form (after https://arxiv.org/abs/2309.08600 and its heirs), once it is folded:
    a = encoder(normalize(x)),  y = denormalize(decoder(a, x))
and for most of them
    h = normalize(x) W_enc.T + b_enc,  a = activation(h),  y = denormalize(a W_dec + b_out) (+ x W_skip)
Where a dictionary reads or writes at several hook points, x and y are the activations there side by side.
Shape suffixes: T tokens, D input width, O output width, F features, M chosen features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.dictionaries import architectures
from inference.dictionaries.architectures import Decoder, Encoder
from inference.dictionaries.architectures.heights import encode_with_heights
from inference.dictionaries.architectures.linear import needed
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.folding import fold
from inference.dictionaries.formats.tensors import read_tensors
from inference.dictionaries.normalization import denormalize, normalize
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput, NotFound
from kernels.encode_maximum import Heights, Spans

if TYPE_CHECKING:
    from inference.language_models import LanguageModel


class UnknownFeature(NotFound):
    """An index that the dictionary does not have."""

    code = "unknown-feature"


class WithoutDecoder(InvalidInput):
    """A dictionary that only reads, or whose features have no direction of their own, asked for what it lacks."""

    code = "without-decoder"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dictionary:
    """The two halves of a dictionary on one device.

    `lengths`, how many tokens each sequence has, end to end, is for encoders of sequences: without it all tokens are
    one sequence. Others encode each token for itself and take no notice.
    """

    config: DictionaryConfig
    encoder: Encoder
    decoder: Decoder | None
    device: torch.device
    dtype: torch.dtype

    @property
    def n_features(self) -> int:
        return self.config.n_features

    @property
    def d_in(self) -> int:
        return self.config.d_in

    @property
    def d_out(self) -> int:
        return self.config.d_out

    @property
    def hook_in(self) -> str:
        return self.config.hook_in

    @property
    def hook_out(self) -> str:
        return self.config.hook_out

    @property
    def n_bytes(self) -> int:
        return self.encoder.n_bytes + (0 if self.decoder is None else self.decoder.n_bytes)

    @torch.inference_mode()
    def encode(self, x_td: Tensor, lengths: Sequence[int] | None = None) -> SparseActivations:
        """Return the activations of all features."""
        return self.encoder.encode(self._input(x_td), **self._sequences(x_td, lengths))

    @torch.inference_mode()
    def encode_features(
        self,
        x_td: Tensor,
        indices_m: Sequence[int] | Tensor,
        lengths: Sequence[int] | None = None,
        *,
        kth_t: Tensor | None = None,
    ) -> Tensor:
        """Return a_tm: the chosen columns of `encode`, without computing the others where the architecture allows.

        Where features compete, the others decide: `kth_t`, from `kth_scores`, says what they decided for these tokens.
        """
        indices_m = self._indices(indices_m)
        known = {} if kth_t is None else {"kth_t": kth_t}
        return self.encoder.encode_features(self._input(x_td), indices_m, **self._sequences(x_td, lengths), **known)

    @property
    def has_kth_scores(self) -> bool:
        """Whether `kth_scores` says anything: in a TopK dictionary, where features compete at each token."""
        return getattr(self.encoder, "has_kth_scores", False)

    @torch.inference_mode()
    def kth_scores(self, activations: SparseActivations) -> Tensor | None:
        """Return four bytes a token that make `encode_features` as cheap for TopK as where nothing competes.

        None for dictionaries that have no use for them.
        """
        return self.encoder.kth_scores(activations) if self.has_kth_scores else None

    @torch.inference_mode()
    def pre_activations(self, x_td: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """Return h_tf, what the architecture decides on: dense, so give it few tokens at a time."""
        return self.encoder.pre_activations(self._input(x_td), **self._sequences(x_td, lengths))

    @torch.inference_mode()
    def activate(self, h_tf: Tensor, x_td: Tensor, lengths: Sequence[int] | None = None) -> SparseActivations:
        """Return what `encode` returns, from pre-activations and their input: for those who look at both.

        Most architectures need the pre-activations alone; where features explain away what others see, the input.
        """
        return self.encoder.activate(h_tf, self._input(x_td), **self._sequences(x_td, lengths))

    @torch.inference_mode()
    def encode_with_heights(
        self, x_td: Tensor, spans: Spans, lengths: Sequence[int] | None = None
    ) -> tuple[SparseActivations, Heights]:
        """Return what `encode` returns, and the highest pre-activations of each feature in spans of rows.

        Give it few tokens at a time: some architectures compute all pre-activations of these at once.
        """
        return encode_with_heights(self.encoder, self._input(x_td), spans, **self._sequences(x_td, lengths))

    @torch.inference_mode()
    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        """Return y_to; raise WithoutDecoder.

        Dictionaries that normalize their input, skip it to the output, or write what depends on it need it too.
        """
        if self.decoder is None:
            raise self._lacks("no decoder")
        y_to = self.decoder.decode(activations, x_td, lengths)
        if self.config.normalize != "none" and not self.config.is_transcoder:
            y_to = denormalize(self.config.normalize, y_to, needed(x_td).to(y_to.dtype))
        return y_to

    def reconstruct(self, x_td: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """Return decode(encode(x_td)); raise WithoutDecoder."""
        return self.decode(self.encode(x_td, lengths), x_td, lengths)

    def error(self, x_td: Tensor, y_to: Tensor | None = None, lengths: Sequence[int] | None = None) -> Tensor:
        """Return what the dictionary misses: y_to, its true output (for an SAE its input), less the reconstruction."""
        return (x_td if y_to is None else y_to) - self.reconstruct(x_td, lengths)

    def decoder_directions(self, indices_m: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return d_mo, the rows that activations multiply, at their own length; raise WithoutDecoder."""
        if self.decoder is None or not self.config.has_directions:
            raise self._lacks("no decoder directions")
        return self.decoder.directions(self._indices(indices_m))

    def encoder_directions(self, indices_m: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return e_md, the rows that inputs are projected on."""
        return self.encoder.directions(self._indices(indices_m))

    def _input(self, x_td: Tensor) -> Tensor:
        return normalize(self.config.normalize, x_td.to(self.dtype))

    def _sequences(self, x_td: Tensor, lengths: Sequence[int] | None) -> dict[str, Any]:
        return {"lengths": lengths or [len(x_td)]} if self.config.is_sequential else {}

    def _lacks(self, what: str) -> WithoutDecoder:
        return WithoutDecoder(
            f"A dictionary of the architecture {self.config.architecture} has {what}.",
            "Read its activations; steer and reconstruct with another.",
            architecture=self.config.architecture,
        )

    def _indices(self, indices_m: Sequence[int] | Tensor | None) -> Tensor | slice:
        if indices_m is None:
            return slice(None)
        indices_m = torch.as_tensor(indices_m, dtype=torch.int64, device=self.device)
        if len(indices_m) and not 0 <= int(indices_m.min()) <= int(indices_m.max()) < self.n_features:
            raise UnknownFeature(
                f"The dictionary has features 0 to {self.n_features - 1}.",
                "Choose one of these.",
                indices=[i for i in indices_m.tolist() if not 0 <= i < self.n_features],
                n_features=self.n_features,
            )
        return indices_m


def load(
    config: DictionaryConfig, *, device: object = None, dtype: str = "float32", model: LanguageModel | None = None
) -> Dictionary:
    """Read the weights of a config onto a device; raise DamagedDictionary where they are not finite.

    A dictionary of attention outputs that TransformerLens had shifted takes the model's own; without it, shifted ones.
    """
    stored = read_tensors(config)
    if model is not None and config.options.get("value_biases"):
        from inference.dictionaries.value_shift import value_shift

        stored["mean_d"] = value_shift(model, config.hook_in)
    folded = fold(config, stored)
    to = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tensors = {name: tensor.to(to, getattr(torch, dtype)) for name, tensor in folded.items()}
    return Dictionary(
        config=config,
        encoder=architectures.encoder(config, tensors),
        decoder=architectures.decoder(config, tensors),
        device=to,
        dtype=getattr(torch, dtype),
    )
