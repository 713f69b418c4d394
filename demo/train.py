"""Make the demonstration from nothing: tokenizer, language model, dictionaries, measurements, README.

    python -m demo.train                    # everything; goes on where a killed run stopped
    python -m demo.train --minutes 5 --dictionary-minutes 3 --out .local/quick

Checkpoints and the tokenised text lie under `--work`; delete that folder to begin anew. Needs no network.
"""

import argparse
import logging
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from demo import dictionaries, dictionary_training, language_model, readme
from demo.activations import batches
from demo.measure import measure, standard_library_loss
from demo.sources import SourceFile, list_sources
from demo.tokenizer import Windows, token_stream, train_tokenizer
from demo.tokenizer import save as save_tokenizer
from inference.dictionaries import load_dictionary
from inference.language_models import LanguageModel, load_language_model

log = logging.getLogger(__name__)
HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=50, help="time for the language model")
    parser.add_argument("--dictionary-minutes", type=float, default=18, help="time for all dictionaries together")
    parser.add_argument("--tokens", type=int, default=400_000, help="held-out tokens to measure on")
    parser.add_argument("--work", type=Path, default=HERE.parent / ".local" / "demo-train")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    build(
        language_model.Recipe(minutes=options.minutes),
        dictionaries.PLANS,
        list_sources(),
        work=options.work,
        out=options.out,
        dictionary_minutes=options.dictionary_minutes,
        tokens=options.tokens,
    )


def build(
    recipe: language_model.Recipe,
    plans: tuple[dictionaries.Plan, ...],
    sources: list[SourceFile],
    *,
    work: Path,
    out: Path,
    dictionary_minutes: float,
    tokens: int,
    pool: int = 131_072,
) -> dict:
    """Train and measure all there is, write it under `out`, and return the measurements."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.seed)
    tokenizer = _tokenizer(sources, recipe, work)
    windows = {
        split: Windows(token_stream(tokenizer, _of(sources, split), cache=work / f"{split}.npy"), recipe.context)
        for split in ("train", "held-out")
    }
    module, facts = language_model.train(recipe, windows["train"], work / "language_model.pt", device=device)
    module.save_pretrained(out / "model")
    save_tokenizer(tokenizer, out / "model", context=recipe.context)
    precision = language_model.fast_precision(module, windows["train"], device)
    model = load_language_model(out / "model", device=device)
    dictionary_facts = _train_dictionaries(
        plans,
        model,
        windows["train"],
        recipe,
        work=work,
        out=out,
        minutes=dictionary_minutes,
        precision=precision,
        pool=pool,
    )
    model = load_language_model(out / "model", device="cpu")
    loaded = {plan.source: load_dictionary(out / "dictionaries" / plan.source, device="cpu") for plan in plans}
    spliced_tokens = max(tokens // 4, recipe.context)
    found = measure(model, loaded, windows["held-out"], tokens=tokens, spliced_tokens=spliced_tokens)
    found["standard_library"] = standard_library_loss(model, sources, tokens=spliced_tokens)
    found["training"] = {
        "files": {split: len(_of(sources, split)) for split in windows},
        "text_tokens": {split: window.windows_BT.size for split, window in windows.items()},
        "model": {"parameters": sum(p.numel() for p in model.module.parameters()), **facts},
        "dictionaries": dictionary_facts,
        "device": device.type,
    }
    readme.write(found, plans, recipe, out)
    return found


def _train_dictionaries(
    plans: tuple[dictionaries.Plan, ...],
    model: LanguageModel,
    windows: Windows,
    recipe: language_model.Recipe,
    *,
    work: Path,
    out: Path,
    minutes: float,
    precision: language_model.Precision,
    pool: int,
) -> dict:
    hooks = [hook for plan in plans for hook in (plan.hook_in, plan.hook_out)]
    model.module.set_attn_implementation(recipe.attention)
    stream = batches(model, windows, hooks, precision=precision, batch=min(2048, pool), pool=pool)
    trainees, facts = dictionary_training.train(
        plans, stream, work / "dictionaries.pt", minutes=minutes, precision=precision
    )
    for trainee in trainees:
        dictionaries.save(trainee, out / "dictionaries" / trainee.plan.source, context=recipe.context, facts=facts)
    return facts


def _tokenizer(sources: list[SourceFile], recipe: language_model.Recipe, work: Path) -> PreTrainedTokenizerFast:
    folder = work / "tokenizer"
    if not folder.exists():
        tokenizer = train_tokenizer(_of(sources, "train"), vocabulary=recipe.vocabulary)
        save_tokenizer(tokenizer, folder, context=recipe.context)
    return AutoTokenizer.from_pretrained(folder)


def _of(sources: list[SourceFile], split: str) -> list[SourceFile]:
    return [source for source in sources if source.split == split]


if __name__ == "__main__":
    main()
