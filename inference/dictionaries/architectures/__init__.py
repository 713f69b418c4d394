"""How inputs become activations, and activations outputs: one small module for each architecture.

Most dictionaries are a `LinearEncoder` with an activation of their own and a `LinearDecoder` (`linear`); architectures
that are not linear before or behind their features bring an encoder or a decoder of their own.

Shape suffixes: T tokens, D input width, O output width, F features, M chosen features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from inference.dictionaries.architectures.batch import BatchTopK, FeatureChoice
from inference.dictionaries.architectures.codebook import Codebook
from inference.dictionaries.architectures.gated_points import GatedPoints
from inference.dictionaries.architectures.glu import GLU
from inference.dictionaries.architectures.groupmax import GroupMax
from inference.dictionaries.architectures.identity import Identity
from inference.dictionaries.architectures.jumprelu import JumpReLU
from inference.dictionaries.architectures.kron import Kron
from inference.dictionaries.architectures.linear import Activation, LinearDecoder, LinearEncoder
from inference.dictionaries.architectures.lorsa import Lorsa, Projection, Rotation
from inference.dictionaries.architectures.matching_pursuit import FixedPursuit, MatchingPursuit
from inference.dictionaries.architectures.molt import Transforms
from inference.dictionaries.architectures.neurons import Neurons
from inference.dictionaries.architectures.nonnegative import Nonnegative
from inference.dictionaries.architectures.rescaled import Rescaled
from inference.dictionaries.architectures.router import Router
from inference.dictionaries.architectures.signed_topk import SignedTopK
from inference.dictionaries.architectures.temporal import Attention, Temporal, TemporalDecoder
from inference.dictionaries.architectures.top_afa import TopAFA
from inference.dictionaries.architectures.topk import TopK
from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.sparse import SparseActivations


class Encoder(Protocol):
    """What turns inputs, already normalized, into activations.

    Encoders of sequences (`DictionaryConfig.is_sequential`) take one more argument each, `lengths`: how many tokens
    each sequence has, end to end.
    """

    @property
    def n_bytes(self) -> int: ...

    def encode(self, x_td: Tensor) -> SparseActivations:
        """Return the activations of all features."""
        ...

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        """Return a_tm, equal to the chosen columns of `encode`."""
        ...

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return h_tf, what decides: the higher, the nearer to firing."""
        ...

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        """Return what `encode` returns for x_td, whose pre-activations are known."""
        ...

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return e_md, what inputs are projected on first."""
        ...


class Decoder(Protocol):
    """What turns activations into outputs, before these are brought back to the input's units."""

    @property
    def n_bytes(self) -> int: ...

    def decode(self, activations: SparseActivations, x_td: Tensor | None, lengths: Sequence[int] | None) -> Tensor:
        """Return y_to; raise TypeError without the input where that is needed. `lengths` are those of sequences."""
        ...

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return d_mo, what one unit of each chosen feature adds; only where `DictionaryConfig.has_directions`."""
        ...


Tensors = Mapping[str, Tensor]


def encoder(config: DictionaryConfig, tensors: Tensors) -> Encoder:
    """Return the encoder of a dictionary from its folded tensors."""
    if config.architecture in ENCODERS:
        made = ENCODERS[config.architecture](config, tensors)
    else:
        made = LinearEncoder(tensors["w_enc_fd"], tensors["b_enc_f"], _activation(config, tensors))
    return Rescaled(made, tensors["rescale_f"]) if "rescale_f" in tensors else made


def decoder(config: DictionaryConfig, tensors: Tensors) -> Decoder | None:
    """Return the decoder of a dictionary from its folded tensors, None for one that only reads."""
    if not config.decodes:
        return None
    return DECODERS.get(config.architecture, _linear_decoder)(config, tensors)


def _activation(config: DictionaryConfig, tensors: Tensors) -> Activation:
    """Return what decides: of encoders that may have one or another, as their options say."""
    return ACTIVATIONS[config.options.get("activation", config.architecture)](config, tensors)


def _linear_decoder(config: DictionaryConfig, tensors: Tensors) -> LinearDecoder | GatedPoints:
    if "threshold_pf" in tensors:
        return GatedPoints.of(tensors["w_dec_fo"], tensors["b_out_o"], tensors["threshold_pf"])
    return LinearDecoder(tensors["w_dec_fo"], tensors["b_out_o"], tensors.get("w_skip_do"))


def _jumprelu(config: DictionaryConfig, tensors: Tensors) -> JumpReLU:
    threshold_f = tensors["threshold_f"]
    threshold_f = threshold_f.clamp(min=0) if config.options.get("relu", True) else threshold_f
    return JumpReLU.of(threshold_f, tensors["w_enc_fd"], tensors["b_enc_f"])


def _topk(config: DictionaryConfig, tensors: Tensors) -> TopK:
    return TopK.of(config.k or 0, tensors["w_enc_fd"], tensors["b_enc_f"])


def _relu(config: DictionaryConfig, tensors: Tensors) -> JumpReLU:
    return JumpReLU.of(tensors["b_enc_f"].new_zeros(config.n_features), tensors["w_enc_fd"], tensors["b_enc_f"])


def _thresholded(batch_rule: Callable[[int], Activation]) -> Callable[[DictionaryConfig, Tensors], Activation]:
    """Return what runs an architecture that competes across a batch in training, and at inference if that is stated."""

    def make(config: DictionaryConfig, tensors: Tensors) -> Activation:
        return batch_rule(config.k or 0) if config.options.get("batch_rule") else _jumprelu(config, tensors)

    return make


def _variational(config: DictionaryConfig, tensors: Tensors) -> Activation:
    """Return the mean path of a variational SAE: what is drawn in training is its mean here."""
    behind_relu = config.options.get("relu", True)
    if config.k:
        return _topk(config, tensors) if behind_relu else SignedTopK(config.k, by_magnitude=True)
    return _relu(config, tensors) if behind_relu else Identity()


def _temporal(config: DictionaryConfig, tensors: Tensors) -> Temporal:
    layers = []
    for layer in range(config.options["n_layers"]):
        matrices = {
            name: tensors[f"{stored}_{layer}_{shape}"]
            for name, stored, shape in (
                ("keys_ef", "keys", "ef"),
                ("key_bias_e", "keys", "bias_e"),
                ("queries_ef", "queries", "ef"),
                ("query_bias_e", "queries", "bias_e"),
                ("values_ff", "values", "ff"),
                ("value_bias_f", "values", "bias_f"),
                ("out_ff", "out", "ff"),
                ("out_bias_f", "out", "bias_f"),
            )
        }
        layers.append(Attention(**matrices, n_heads=config.options["n_heads"]))
    return Temporal(
        tensors["w_enc_fd"],
        tensors["w_dec_fo"],
        tensors.get("b_in_d"),
        tuple(layers),
        _activation(config, tensors),
        config.input_scale,
    )


def _lorsa(config: DictionaryConfig, tensors: Tensors) -> Lorsa:
    options, epsilon = config.options, config.options["epsilon"]
    rotation = None
    if "sine_sr" in tensors:
        rotation = Rotation(tensors["sine_sr"], tensors["cosine_sr"], options["adjacent"])
    return Lorsa(
        tensors["w_enc_fd"],
        tensors["b_enc_f"],
        Projection(tensors["queries_hdk"], tensors["query_bias_hk"], tensors.get("query_gain_hk"), epsilon),
        Projection(tensors["keys_hdk"], tensors["key_bias_hk"], tensors.get("key_gain_hk"), epsilon),
        rotation,
        options["scale"],
        _activation(config, tensors),
    )


def _matching_pursuit(config: DictionaryConfig, tensors: Tensors) -> MatchingPursuit:
    options = config.options
    return MatchingPursuit(
        w_fd=tensors["w_enc_fd"],
        b_in_d=tensors.get("b_in_d"),
        residual_threshold=options["residual_threshold"],
        max_steps=options["max_iterations"] or config.d_in,
        stop_on_repeat=options["stop_on_duplicate_support"],
    )


# Tensors are folded: a gated dictionary has become a JumpReLU, and so has BatchTopK with the threshold it saved.
ACTIVATIONS: dict[str, Callable[[DictionaryConfig, Tensors], Activation]] = {
    "relu": _relu,
    "topk": _topk,
    "jumprelu": _jumprelu,
    "gated": _jumprelu,
    "batchtopk": _thresholded(BatchTopK),
    "matryoshka": _thresholded(BatchTopK),
    "mutual_choice": _thresholded(BatchTopK),
    "feature_choice": _thresholded(FeatureChoice),
    "variational": _variational,
    "linear": lambda config, tensors: Identity(),
    "router": lambda config, tensors: Router(config.k or 0, config.options["among_chosen"]),
    "codebook": lambda config, tensors: Codebook(config.k or 0),
    "groupmax": lambda config, tensors: GroupMax(config.k or 0),
    "abstopk": lambda config, tensors: SignedTopK(config.k or 0, by_magnitude=True),
    "signed_topk": lambda config, tensors: SignedTopK(config.k or 0, by_magnitude=False),
}
# Architectures with more before their features than one product, and with more behind them.
ENCODERS: dict[str, Callable[[DictionaryConfig, Tensors], Encoder]] = {
    "matching_pursuit": _matching_pursuit,
    "fixed_pursuit": lambda config, tensors: FixedPursuit(
        w_fd=tensors["w_enc_fd"],
        b_in_d=tensors.get("b_in_d"),
        steps=config.k or 0,
        by_magnitude=config.options.get("by_magnitude", True),
    ),
    "neurons": lambda config, tensors: Neurons(config.n_features),
    "nonnegative": lambda config, tensors: Nonnegative(tensors["w_enc_fd"], tensors.get("b_in_d")),
    "top_afa": lambda config, tensors: TopAFA(
        tensors["w_enc_fd"], tensors["b_enc_f"], tensors.get("b_in_d"), tensors["w_dec_fo"].norm(dim=1)
    ),
    "kron": lambda config, tensors: Kron(
        tensors["w_p_pd"], tensors["w_q_qd"], tensors["b_p_p"], tensors["b_q_q"], config.options["heads"], config.k or 0
    ),
    "glu": lambda config, tensors: GLU(
        tensors["w_enc_fd"], tensors["b_enc_f"], tensors["w_glu_fd"], tensors["b_glu_f"], _activation(config, tensors)
    ),
    "temporal": _temporal,
    "lorsa": _lorsa,
    "molt": lambda config, tensors: LinearEncoder(
        tensors["w_enc_fd"], tensors["b_enc_f"], _activation(config, tensors)
    ),
}
DECODERS: dict[str, Callable[[DictionaryConfig, Tensors], Decoder]] = {
    "temporal": lambda config, tensors: TemporalDecoder(
        _linear_decoder(config, tensors), _temporal(config, tensors), config.normalize
    ),
    "molt": lambda config, tensors: Transforms(
        tensors["v_rd"], tensors["u_ro"], tensors["feature_r"], tensors["b_out_o"]
    ),
}
