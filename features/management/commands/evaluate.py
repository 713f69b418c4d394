"""Measure how faithful dictionaries are to their model."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from features import selectors, services
from features.fidelity import Fidelity
from features.management.addresses import named_dictionaries
from features.management.facet_command import FacetCommand
from features.management.inline import carry_out_here
from features.services.evaluations import N_TOKENS
from features.services.runs import CONTEXT_SIZE


class Command(FacetCommand):
    help = "Measure L0, error, explained variance, CE recovered and KL score of dictionaries of one model on text."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="+", help="MODEL/SOURCE, or MODEL for all its dictionaries")
        parser.add_argument("--corpus", default="", help="a corpus (default: the only one there is)")
        parser.add_argument("--tokens", type=int, default=N_TOKENS, help=f"tokens to read (default: {N_TOKENS:,})")
        parser.add_argument("--split", default="test", help="documents to read: test (default), train or all")
        parser.add_argument(
            "--context-size",
            type=int,
            default=None,
            help=f"tokens in a context, BOS included (default: {CONTEXT_SIZE})",
        )

    def handle(
        self, *, source: list[str], corpus: str, tokens: int, split: str, context_size: int | None, **_: Any
    ) -> None:
        dictionaries = [dictionary for address in source for dictionary in named_dictionaries(address)]
        run_id = services.evaluations.create(
            dictionaries=dictionaries, corpus=corpus, n_tokens=tokens, split=split, context_size=context_size
        )
        carry_out_here(run_id)
        model = source[0].strip("/").partition("/")[0]
        for card in selectors.source_cards(model):
            if card.id in dictionaries and card.fidelity is not None:
                self.stdout.write(f"{card.model}/{card.source}")
                for name, text in _lines(card.fidelity):
                    self.stdout.write(f"  {name:<18} {text}")


def _lines(measured: Fidelity) -> list[tuple[str, str]]:
    return [
        ("L0", f"{measured.l0_mean:.1f} (median {measured.l0_median:.0f}, 90th percentile {measured.l0_p90:.0f})"),
        ("squared error", f"{measured.mean_squared_error:.4g} per token"),
        ("explained variance", _share(measured.explained_variance)),
        (
            "CE",
            f"{measured.ce_clean:.4f} clean, {measured.ce_spliced:.4f} spliced,"
            f" {measured.ce_ablated:.4f} with zeros (nats)",
        ),
        ("CE recovered", _share(measured.ce_recovered)),
        ("KL score", _share(measured.kl_score)),
        (
            "measured on",
            f"{measured.n_tokens:,} tokens of {measured.corpus} ({measured.split}), {measured.n_predictions:,} of them"
            f" predicted; {measured.precision}, without {measured.excluded}",
        ),
    ]


def _share(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
