"""A dictionary at work: encode, encode chosen features, decode, error term, directions.

Every supported architecture is one form (after https://arxiv.org/abs/2309.08600 and its heirs), once it is folded:
    h = normalize(x) W_enc.T + b_enc,  a = architecture(h),  y = denormalize(a W_dec + b_out) (+ x W_skip)
Shape suffixes: T tokens, D input width, O output width, F features, M chosen features, N firings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.architectures import ARCHITECTURES, Architecture
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.folding import fold
from inference.dictionaries.formats.tensors import read_tensors
from inference.dictionaries.normalization import denormalize, normalize
from inference.dictionaries.sparse import SparseActivations
from inference.errors import NotFound


class UnknownFeature(NotFound):
    """An index that the dictionary does not have."""

    code = "unknown-feature"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dictionary:
    """Weights of a dictionary on one device. The input's bias is folded into `b_enc_f`; encoder rows are features."""

    config: DictionaryConfig
    architecture: Architecture
    w_enc_fd: Tensor
    b_enc_f: Tensor
    w_dec_fo: Tensor
    b_out_o: Tensor
    w_skip_do: Tensor | None = None

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
    def device(self) -> torch.device:
        return self.w_enc_fd.device

    @property
    def n_bytes(self) -> int:
        tensors = (self.w_enc_fd, self.b_enc_f, self.w_dec_fo, self.b_out_o, self.w_skip_do)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    @torch.inference_mode()
    def encode(self, x_td: Tensor) -> SparseActivations:
        """Return the activations of all features."""
        return self.architecture.encode(self._input(x_td), self.w_enc_fd, self.b_enc_f)

    @torch.inference_mode()
    def encode_features(self, x_td: Tensor, indices_m: Sequence[int] | Tensor) -> Tensor:
        """Return a_tm: the chosen columns of `encode`, without computing the others where the architecture allows."""
        return self.architecture.encode_features(
            self._input(x_td), self.w_enc_fd, self.b_enc_f, self._indices(indices_m)
        )

    @torch.inference_mode()
    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return h_tf, what the architecture decides on: dense, so give it few tokens at a time."""
        return torch.addmm(self.b_enc_f, self._input(x_td), self.w_enc_fd.T)

    @torch.inference_mode()
    def activate(self, h_tf: Tensor, x_td: Tensor | None = None) -> SparseActivations:
        """Return what `encode` returns, from the pre-activations: for those who look at both.

        Architectures in which features explain away what others see (matching pursuit) need the input itself.
        """
        if hasattr(self.architecture, "activate"):
            return self.architecture.activate(h_tf)
        return self.encode(_needed(x_td))

    @torch.inference_mode()
    def decode(self, activations: SparseActivations, x_td: Tensor | None = None) -> Tensor:
        """Return y_to. Dictionaries that normalize their input or skip it to the output need that input too."""
        y_to = self.b_out_o + functional.embedding_bag(
            activations.indices_n,
            self.w_dec_fo,
            activations.indptr,
            mode="sum",
            per_sample_weights=activations.values_n,
            include_last_offset=True,
        )
        if self.w_skip_do is not None:
            y_to = torch.addmm(y_to, _needed(x_td).to(y_to.dtype), self.w_skip_do)
        if self.config.normalize != "none" and not self.config.is_transcoder:
            y_to = denormalize(self.config.normalize, y_to, _needed(x_td).to(y_to.dtype))
        return y_to

    def reconstruct(self, x_td: Tensor) -> Tensor:
        """Return decode(encode(x_td))."""
        return self.decode(self.encode(x_td), x_td)

    def error(self, x_td: Tensor, y_to: Tensor | None = None) -> Tensor:
        """Return what the dictionary misses: y_to, its true output (for an SAE its input), less the reconstruction."""
        return (x_td if y_to is None else y_to) - self.reconstruct(x_td)

    def decoder_directions(self, indices_m: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return d_mo, the rows that activations multiply, at their own length."""
        return self.w_dec_fo if indices_m is None else self.w_dec_fo[self._indices(indices_m)]

    def encoder_directions(self, indices_m: Sequence[int] | Tensor | None = None) -> Tensor:
        """Return e_md, the rows that inputs are projected on."""
        return self.w_enc_fd if indices_m is None else self.w_enc_fd[self._indices(indices_m)]

    def _input(self, x_td: Tensor) -> Tensor:
        return normalize(self.config.normalize, x_td.to(self.w_enc_fd.dtype))

    def _indices(self, indices_m: Sequence[int] | Tensor) -> Tensor:
        indices_m = torch.as_tensor(indices_m, dtype=torch.int64, device=self.device)
        if len(indices_m) and not 0 <= int(indices_m.min()) <= int(indices_m.max()) < self.n_features:
            raise UnknownFeature(
                f"The dictionary has features 0 to {self.n_features - 1}.",
                "Choose one of these.",
                indices=[i for i in indices_m.tolist() if not 0 <= i < self.n_features],
                n_features=self.n_features,
            )
        return indices_m


def load(config: DictionaryConfig, *, device: object = None, dtype: str = "float32") -> Dictionary:
    """Read the weights of a config onto a device; raise DamagedDictionary where they are not finite."""
    tensors = fold(config, read_tensors(config))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tensors = {name: tensor.to(device, getattr(torch, dtype)) for name, tensor in tensors.items()}
    return Dictionary(
        config=config,
        architecture=ARCHITECTURES[config.architecture](config, tensors),
        w_enc_fd=tensors["w_enc_fd"],
        b_enc_f=tensors["b_enc_f"],
        w_dec_fo=tensors["w_dec_fo"],
        b_out_o=tensors["b_out_o"],
        w_skip_do=tensors.get("w_skip_do"),
    )


def _needed(x_td: Tensor | None) -> Tensor:
    if x_td is None:
        raise TypeError("This dictionary needs its input for that: pass x_td.")
    return x_td
