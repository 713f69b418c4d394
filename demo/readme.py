"""Write measurements.json, and README.md from it: no figure of the page is typed by hand."""

import json
import textwrap
from pathlib import Path

from demo.dictionaries import Plan
from demo.language_model import Recipe

AIMS = (
    ("L0, mean", "l0_mean", "{:.1f}", "at most 32", lambda value: round(value, 1) <= 32),
    ("Explained variance", "explained_variance", "{:.3f}", "at least 0.85", lambda value: value >= 0.85),
    ("CE recovered", "ce_recovered", "{:.3f}", "at least 0.95", lambda value: value >= 0.95),
    ("Dead features", "dead_share", "{:.1%}", "under 5 %", lambda value: value < 0.05),
)
FIGURES = (
    ("L0, median", "l0_median", "{:.0f}"),
    ("L0, 90th percentile", "l0_p90", "{:.0f}"),
    ("KL score", "kl_score", "{:.3f}"),
    ("CE clean (nats)", "ce_clean", "{:.3f}"),
    ("CE spliced", "ce_spliced", "{:.3f}"),
    ("CE with zeros", "ce_ablated", "{:.3f}"),
    ("Dense features (over 10 %)", "dense_share", "{:.1%}"),
    ("No peak token has half", "no_token_has_half", "{:.1%}"),
    ("Three peak tokens or more", "three_tokens_or_more", "{:.1%}"),
)


def write(found: dict, plans: tuple[Plan, ...], recipe: Recipe, out: Path) -> None:
    """Write both files into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    found["plans"] = {
        plan.source: {
            "architecture": plan.architecture,
            "hook_in": plan.hook_in,
            "hook_out": plan.hook_out,
            "features": plan.features,
        }
        for plan in plans
    }
    found["recipe"] = {
        "layers": recipe.layers,
        "width": recipe.width,
        "heads": recipe.heads,
        "vocabulary": recipe.vocabulary,
        "context": recipe.context,
    }
    (out / "measurements.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "README.md").write_text(render(found))


def render(found: dict) -> str:
    """Return the page."""
    model, training, recipe = found["model"], found["training"], found["recipe"]
    per, library = found["dictionaries"], found["standard_library"]
    first = next(iter(per.values()))
    facts, dictionary_facts = training["model"], training["dictionaries"]
    epochs = facts["tokens"] / training["text_tokens"]["train"]
    return _reflowed(f"""
# The demonstration

A small language model of Python source and {len(per)} dictionaries on it, trained by this project on the Python files
that an installation has on disk, so that Facet has something real to show without a network. Every figure below comes
from `measurements.json`, measured on files that no training has seen.

## The language model

`model/` is GPT-2's architecture in Hugging Face layout: {recipe["layers"]} layers, width {recipe["width"]},
{recipe["heads"]} heads, {recipe["vocabulary"]:,} byte-level BPE tokens, context {recipe["context"]},
{facts["parameters"] / 1e6:.1f} million parameters in float32. It read {facts["tokens"] / 1e6:.1f} million tokens,
{epochs:.1f} times the training text, in {facts["elapsed"] / 60:.0f} minutes on {training["device"].upper()}. Every
window starts with BOS, `<|endoftext|>`.

Held-out loss: **{model["nats_per_token"]:.3f} nats per token, {model["bits_per_byte"]:.3f} bits per byte**, over
{model["tokens"]:,} tokens; on the standard library's files alone, which share less with others than a package's files
do with one another, {library["nats_per_token"]:.3f} and {library["bits_per_byte"]:.3f} over {library["tokens"]:,}.

The text is the standard library and the packages that Facet stands on, as `demo/sources.py` lists them:
{training["files"]["train"]:,} files to train on, {training["files"]["held-out"]:,} held out, split by a hash of the
file's name.

## The dictionaries

`dictionaries/<source>/` holds `cfg.json` and `sae_weights.safetensors` as SAELens v6 writes them. All were trained
together on {dictionary_facts["tokens"] / 1e6:.1f} million activations in {dictionary_facts["elapsed"] / 60:.0f}
minutes, with an auxiliary loss that revives dead features. The JumpReLU ones were trained as BatchTopK and carry the
mean of the batches' thresholds; the transcoder is one of them because SAELens has no TopK transcoder.

{_sources_table(found["plans"])}

{_figures_table(per)}

{_verdict(per)}

- Measured on {first["tokens"]:,} held-out tokens (dead: fires on none of them), the losses on
  {first["spliced_tokens"]:,}.

- BOS is left out of every figure and left untouched by every splice. CE spliced puts the reconstruction in the place
  of the activation, without its error.

- Explained variance is 1 - FVU, with the mean over the whole sample.

- Peak tokens are those at the peaks of a feature's 20 strongest contexts, over the features that fire in at least 20
  ({_contexts(per)}). "No peak token has half": the commonest accounts for less than half of them. "Three peak tokens or
  more": the exponential of their entropy is at least 3.

## Train it again

    python -m demo.train

needs no network, takes the time it is given (`--minutes`, `--dictionary-minutes`), goes on where a killed run stopped,
and writes `model/`, `dictionaries/`, `measurements.json` and this page.
""")


def _sources_table(plans: dict) -> str:
    lines = ["| source | architecture | reads | predicts | features |", "|---|---|---|---|---:|"]
    for source, plan in plans.items():
        lines.append(
            f"| `{source}` | {plan['architecture']} | `{plan['hook_in']}` |"
            f" `{plan['hook_out']}` | {plan['features']:,} |"
        )
    return "\n".join(lines)


def _figures_table(per: dict) -> str:
    lines = [f"| | {' | '.join(f'`{source}`' for source in per)} | aim |", "|---|" + "---:|" * len(per) + "---|"]
    for title, key, form, aim, holds in AIMS:
        cells = [form.format(d[key]) + ("" if holds(d[key]) else " (missed)") for d in per.values()]
        lines.append(f"| {title} | {' | '.join(cells)} | {aim} |")
    for title, key, form in FIGURES:
        lines.append(f"| {title} | {' | '.join(_cell(form, d[key]) for d in per.values())} | |")
    return "\n".join(lines)


def _verdict(per: dict) -> str:
    missed = [
        f"{title} of `{source}`"
        for title, key, _, _, holds in AIMS
        for source, dictionary in per.items()
        if not holds(dictionary[key])
    ]
    return f"Missed aims: {', '.join(missed)}." if missed else "Every aim is met."


def _contexts(per: dict) -> str:
    return ", ".join(f"{d['features_with_contexts']:,} of `{source}`" for source, d in per.items())


def _cell(form: str, value: float | None) -> str:
    return "not measured" if value is None else form.format(value)


def _reflowed(page: str) -> str:
    """Return the page with its paragraphs filled: figures are of any length."""
    blocks = [
        block
        if block.startswith(("#", "|", "    "))
        else textwrap.fill(
            " ".join(block.split()),
            120,
            subsequent_indent="  " if block.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for block in page.strip("\n").split("\n\n")
    ]
    return "\n\n".join(blocks) + "\n"
