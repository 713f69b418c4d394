"""docs/formats.md, made of the registry of layouts and of the tests that hold it.

`python -m tests.inference.dictionaries.table` writes it; a test fails when it is not current.
"""

from __future__ import annotations

from collections.abc import Callable

from inference.dictionaries.formats import FORMATS
from inference.hook_points import FAMILIES, Family
from tests.inference import test_families, test_interop
from tests.inference.dictionaries import test_oracles
from tests.inference.dictionaries.test_oracles import CONVERTED, ORACLES
from tests.inference.lens import NOT_IN_LENS
from tests.interop import generated

PAGE = "docs/formats.md"
# Layouts whose packages stand alone in an environment, and what these call their cases.
ALONE: dict[str, tuple[str, Callable[[str], str]]] = {
    "overcomplete": ("overcomplete", str),
    "llamascopium": ("llamascopium", lambda name: name.replace(" ", "_")),
    "circuit_tracer": ("circuit_tracer", str),
    "gemma_scope_2_layers": ("circuit_tracer", lambda name: f"gemma_scope_2_{name}"),
    "circuit_tracer_clt": ("circuit_tracer", lambda name: f"clt_{name.replace('_', '')}"),
}
HEAD = """# Formats

The layouts in which Facet reads dictionaries, and the architectures that it runs. `manage.py add_dictionary PATH
--dry-run` says what a folder, a file or a hub id is, and why. This page is written by
`python -m tests.inference.dictionaries.table`; a test fails when it is not current.

Weights are read lazily, from a table of contents and then in pieces straight into place. No pickle is run: a `.pt` file
is read for its tensors, containers and numbers, and refused with the name of anything else that it would import.

Each row is proven twice where it can be. *Formula*: a case of `test_layouts.py` writes the layout with random weights
and compares encode, chosen-feature encode and decode with the published formula in float64: the same active set, and a
relative error under 1e-5. *Package*: a test of `test_oracles.py`, or of `tests/interop/test_packages.py` where the
package has an environment of its own, builds the dictionary in the package itself and saves it with the package's own
writer, or lets the package convert what was published, and compares in the same way (`make interop`). The first two
files are in `tests/inference/dictionaries/`. A dictionary runs on every family of models that has its hook points:
[models.md](models.md) has the families and their tests.

What the columns call ours: `relu`; `jumprelu`, h where h > threshold, also for `gated` (with its gate folded into the
threshold), `batchtopk`, `matryoshka`, `mutual_choice` and `feature_choice` (with the thresholds that training saved);
`topk`, behind a ReLU; `signed_topk` and `abstopk`, without one, by value and by magnitude; `groupmax`; `top_afa`, as
many features as match the input's length; `kron`, pairs of base features; `codebook`, the nearest codes;
`matching_pursuit` (SAELens) and `fixed_pursuit` (ITDA, overcomplete); `nonnegative`, least squares against factors;
`variational`, the mean path; `linear`, everything as it is; `neurons` and `router`, what a model has itself; `glu`, an
encoder with a gated linear unit; `temporal`, what a sequence's past does not predict; `lorsa`, attention heads of rank
one; `molt`, linear maps in the place of directions. Transcoders and skip connections go with any of them.

## Several hook points, several dictionaries

A dictionary that reads or writes at several hook points at once, as crosscoders do, names them joined by `+`; their
activations lie side by side. A feature that fires may write at some of them and not at others: then each has a
threshold of its own.

A path that holds several dictionaries names one of them behind `#`, and without one lists them. `PATH#3` is layer 3 of
a cross-layer transcoder, or of Gemma Scope 2's crosscoders, whose layers have encoders of their own: it reads one hook
point, writes that layer's bias and the features' decoders to its own layer and all later ones, and is one term of the
sum that reconstructs. `manage.py evaluate` measures the whole sum and wants all layers; `test_sets.py` compares the sum
with the package's formula, and the packages' own cases do. One dictionary of several layers, read one at a time, as
multi-layer and layer-group SAEs are, is a part at each of them: `PATH#blocks.4.hook_resid_post`, where `facet.json`
lists `hook_points`.

A crosscoder of two models reads and writes `MODEL/blocks.14.hook_resid_pre` of both. It is added to one of them, and
the other must be there under its name, or `facet.json` beside the weights states theirs:
`{"hook_in": "my-base/blocks.14.hook_resid_pre+my-chat/blocks.14.hook_resid_pre"}`. Both read the same token ids: their
vocabularies may differ in 1% of the tokens. Prompts, builds and explained variance take both models; what changes a
model (steering, splices) and effects on logits take its own points alone. `test_two_models.py` does the arithmetic.

Temporal SAEs and Lorsa see whole sequences, BOS included; predictions from the past are part of what a temporal SAE
reconstructs. Features of MOLT write something else for every input, so that they cannot be steered or compared.
"""
FAMILIES_HEAD = """
## Families of models

A layout does not depend on the model: every row above runs at the hook points of every row below, which
[models.md](models.md) lists. *Captured*: equal at every hook point to TransformerLens, or to what the model's own
modules give in float64. *Spliced*: a reconstruction put back gives the logits that SAELens gives, or changes what is
downstream and nothing else. Encoders predict no tokens, and are not spliced. The tests are in
`tests/inference/`, each with the family among its parameters.

| family | captured | spliced |
|---|---|---|
"""
NOT_READ = """
## What files leave out

`facet.json` beside the weights states it: `hook_in`, `hook_out`, `hook_points`, `model_name`, `k`, `context_size`,
`prepend_bos`; `input_scale`, the factor that inputs were scaled by in training, or a list with one for each joined hook
point; `threshold`, where training saved none, or
`batch_rule` to let features compete across the tokens that are encoded together, as in training; `dict_class`, for
files of dictionary_learning, InterPLM and overcomplete that may be two things; `centred`, whether TransformerLens had
centred the weights of the model that a dictionary was trained on, as for GPT-2's `res-jb`. Where a config says so
itself, or the file does, inputs are centred; and attention outputs, loaded beside their model, are shifted by what
TransformerLens takes out of them when it moves the values' biases.

## Not read

SAELens before version 3 and transcoder_circuits as published: pickles of their own classes, which are refused; saved
again with a plain `cfg` they are `checkpoint`. overcomplete's encoders of more than one product, its OMPSAE and QSAE.
Multi-layer SAEs behind a tuned lens. Crosscoders and cross-layer transcoders whose features compete across layers, hook
points or tokens at inference: llamascopium and crosslayer-coding convert theirs to JumpReLU. The clt-training fork of
sparsify. llamascopium's `.dcp` checkpoints and batch-wise norms, and Lorsa with a repeated rotation. Nothing is known
to be published for feature choice, mutual choice, KronSAE, gradient, variational and codebook dictionaries: `plain` is
for those.
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for layout, module in FORMATS.items():
        parts.append(f"\n## `{layout}`\n\n{module.__doc__.strip().splitlines()[0]}\n\nLooks like: {module.LAYOUT}.\n")
        parts.append("\n| called there | architecture | formula | package |\n|---|---|---|---|\n")
        for name, ours in module.ARCHITECTURES.items():
            formula = f"`test_layout_equals_its_formula[{layout}-{name}]`"
            oracle = oracle_of(layout, name)
            parts.append(f"| `{name}` | {ours} | {formula} | {f'`{oracle}`' if oracle else '–'} |\n")
    return "".join([*parts, FAMILIES_HEAD, *map(_family_row, FAMILIES.values()), NOT_READ])


def _family_row(family: Family) -> str:
    if family.name in NOT_IN_LENS:
        tests = (
            test_families.test_captured_parts_add_up,
            test_families.test_a_splice_changes_what_is_downstream_and_nothing_else,
        )
    else:
        tests = (
            test_interop.test_capture_equals_transformer_lens_at_every_hook_point,
            test_interop.test_splices_equal_sae_lens,
        )
    captured, spliced = (f"`{test.__name__}`" for test in tests)
    return f"| `{family.name}` | {captured} | {spliced if family.causal else '–'} |\n"


def oracle_of(layout: str, name: str) -> str:
    """Return the test that compares what a layout calls so with its package; empty where there is none."""
    if hasattr(test_oracles, own := f"test_{layout}_{name}"):
        return own
    if (layout, name) in CONVERTED:
        return "test_publications_that_saelens_converts"
    if name in ORACLES.get(layout, ()):
        return f"test_{layout}"
    package, case_of = ALONE.get(layout, ("", str))
    cases = generated.cases_of(package) if package else []
    return next((f"test_package[{package}-{case}]" for case in cases if case.startswith(f"{case_of(name)}-")), "")


if __name__ == "__main__":
    from pathlib import Path

    Path(PAGE).write_text(page())
