"""What a table of hook points is made of: sites, norms, families, and the sites that most blocks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Width = Literal["model", "heads", "mlp"]
End = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a value is: `module`, a path in the loaded model with `{layer}` for the block, and which `end`.

    `plus_input_of` names a module whose input is added: `hook_resid_mid` is what attention wrote plus what the block
    got, and writing it changes what attention wrote. A `normalized` site is the output of a norm before its gain and
    bias: it is computed from the norm's input, and writing it goes through the gain and bias. `only_for` names the
    one reader of a norm with several that sees what is written there. `then` is the norm whose gain lies between the
    site and the residual stream. `aliases` are other paths, each with its end, that hold the same value. `attends` is
    the module of whose heads `attn.hook_z` is the output, where that is not the one around the site's.
    """

    module: str
    end: End = "output"
    width: Width = "model"
    normalized: bool = False
    plus_input_of: str | None = None
    only_for: str | None = None
    then: str | None = None
    attends: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Norm:
    """How a family's norm modules work.

    `centred` says LayerNorm, `epsilon` is its value or the name of the module's attribute, and the gain is the
    module's weight plus `offset`, or 1 where it has none.
    """

    centred: bool
    epsilon: str | float
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """An architecture: what transformers calls it, its base model (all but the head), its norms and its sites.

    A family covers the configurations of `model_type` (its name, unless given) whose values are those in `when`.
    `known_as` and `gaps` are for people: published models, and what Facet does not do with them.
    """

    name: str
    base: str
    norm: Norm
    sites: Mapping[str, Site]
    known_as: str
    model_type: str = ""
    when: Mapping[str, object] = field(default_factory=dict)
    causal: bool = True
    gaps: tuple[str, ...] = ()

    def covers(self, model_type: str, config: object) -> bool:
        """Return whether a model of this type and configuration belongs to the family."""
        return (self.model_type or self.name) == model_type and all(
            getattr(config, name, None) == value for name, value in self.when.items()
        )


def block_sites(
    block: str,
    *,
    ln1: str,
    attention: str,
    z: str,
    ln2: str,
    mlp: str,
    pre: str | None = None,
    linear: str | None = None,
    post: str | None = None,
) -> dict[str, Site]:
    """Return the sites of a pre-norm block in which attention and MLP write one after the other.

    Names are relative to the block: `z` projects the heads' outputs, `post` the MLP's activations; `pre` feeds the
    activation function and `linear` what a gate multiplies. A mixture of experts has none of the last three.
    """
    ln1, attention, z, ln2, mlp = (f"{block}.{name}" for name in (ln1, attention, z, ln2, mlp))
    neurons: dict[str, Site] = {}
    if pre:
        neurons["mlp.hook_pre"] = Site(f"{block}.{pre}", width="mlp")
    if linear:
        neurons["mlp.hook_pre_linear"] = Site(f"{block}.{linear}", width="mlp")
    if post:
        neurons["mlp.hook_post"] = Site(f"{block}.{post}", "input", "mlp")
    return {
        "hook_resid_pre": Site(block, "input"),
        "ln1.hook_normalized": Site(ln1, normalized=True),
        "attn.hook_z": Site(z, "input", "heads"),
        "hook_attn_out": Site(attention, aliases=(f"{z}.output",)),
        "hook_resid_mid": Site(attention, plus_input_of=block),
        "hook_mlp_in": Site(ln2, "input"),
        "ln2.hook_normalized": Site(ln2, normalized=True),
        "mlp.hook_in": Site(mlp, "input", aliases=(f"{ln2}.output",)),
        **neurons,
        "hook_mlp_out": Site(mlp, aliases=(f"{block}.{post}.output",) if post else ()),
        "hook_resid_post": Site(block),
    }


def with_norms_behind(
    sites: Mapping[str, Site],
    block: str,
    *,
    attention: str,
    mlp: str,
    z: str,
    post: str,
    after_attention: str,
    after_mlp: str,
) -> dict[str, Site]:
    """Return the sites of a block that normalizes what attention and MLP return before it adds it to the stream.

    `hook_attn_out` and `hook_mlp_out` are what is added; `attn.hook_out` and `mlp.hook_out` what is normalized.
    """
    attention, mlp, z, post, after_attention, after_mlp = (
        f"{block}.{name}" for name in (attention, mlp, z, post, after_attention, after_mlp)
    )
    return {
        **sites,
        "attn.hook_z": replace(sites["attn.hook_z"], then=after_attention),
        "attn.hook_out": Site(attention, then=after_attention, aliases=(f"{z}.output",)),
        "hook_attn_out": Site(after_attention),
        "hook_resid_mid": Site(after_attention, plus_input_of=block),
        "mlp.hook_post": replace(sites["mlp.hook_post"], then=after_mlp),
        "mlp.hook_out": Site(mlp, then=after_mlp, aliases=(f"{post}.output",)),
        "hook_mlp_out": Site(after_mlp),
    }


def without(sites: Mapping[str, Site], *names: str) -> dict[str, Site]:
    """Return the sites but those named."""
    return {name: site for name, site in sites.items() if name not in names}
