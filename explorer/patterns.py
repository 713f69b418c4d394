"""Fixtures for /patterns/: one value of every dataclass that a component shows, with its awkward cases.

Everything is computed from a few lines of text by fixed rules, so that the page and its screenshots never change by
themselves. No fixture is read by any other page.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from explorer.live_values import LiveProvenance, PromptToken, TracedHead, TracedText, TracedToken
from features.results import (
    CommentCard,
    ContextHit,
    ExampleCard,
    ExampleGroup,
    ExplanationCard,
    FeatureCard,
    FeatureRow,
    Histogram,
    ListCard,
    ModelCard,
    Neighbour,
    Page,
    PeakToken,
    SearchResults,
    SearchTotals,
    SourceCard,
    TokenEffect,
)
from features.run_results import RunCard, ShardCard, ShardFailure, Shards, WorkerPart
from inference.dashboards.results import BANDS

MOMENT = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
MAXIMUM = 11.8

TEXTS = (
    "        raise ValueError(\n            'the step must be positive, got %r' % (step,)\n        )\n"
    "    return start + step\n",
    "    def __enter__(self):\n        # A lock that raises must leave the state as it was.\n        self.acquire()\n"
    "        return self\n\n    def __exit__(self, kind, value, trace):\n        self.release()\n",
    "    if not callable(handler):\n"
    "        raise TypeError(f'handler must be callable, not {type(handler)!r}') from None\n",
    "        try:\n            data = self._buffer.read(size)\n        except BlockingIOError as error:\n"
    "            raise TimeoutError('no data within the time limit') from error\n",
    "# Naïve café: “smart” quotes, 日本語のテキスト, 🙂 and \x1b[1m escape codes\nraise UnicodeError('שלום')\n",
)
_TOKEN = re.compile(r"\n *|\t| ?[A-Za-z_]+| ?\d+| ?[^\sA-Za-z_\d]| +", re.S)


def example(text: str, *, group: int = 0, peak: float = MAXIMUM, line: int = 118, word: str = "raise") -> ExampleCard:
    """Return an example that fires on `word` and, more weakly, around it; wide characters become two tokens."""
    starts, ends = [0], [0]
    for match in _TOKEN.finditer(text):
        copies = 2 if any(ord(character) > 0x2FFF for character in match[0]) else 1
        starts += [match.start()] * copies
        ends += [match.end()] * copies
    centre = next((i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if word in text[a:b]), len(starts) // 2)
    fired: dict[int, float] = {}
    if group < 6:
        shares = {0: 1.0, -1: 0.07, 1: 0.46, 2: 0.12, 3: 0.21, 8: 0.02, 17: 0.3}
        fired = {centre + d: peak * s for d, s in shares.items() if 0 < centre + d < len(starts)}
    return ExampleCard(
        context=line,
        text=text,
        starts=tuple(starts),
        ends=tuple(ends),
        token_ids=tuple((i * 389 + 17) % 4096 for i in range(len(starts))),
        positions=tuple(sorted(fired)),
        values=tuple(round(fired[p], 3) for p in sorted(fired)),
        peak_position=centre,
        peak_value=peak if group < 6 else 0.0,
        document="lib/python3.11/argparse.py",
        document_url="/patterns/",
        line=line,
        split="test" if line % 2 else "train",
        group=group,
        n_similar=12 if line == 118 else 0,
    )


def example_groups() -> tuple[ExampleGroup, ...]:
    """Return all eight groups with two rows each."""
    shares = {1: 0.04, 2: 0.11, 3: 0.22, 4: 0.27, 5: 0.36}
    groups = [_group(0, "Top", None, None, None, 20, 1.0)]
    for code, (low, high) in BANDS.items():
        groups.append(_group(code, f"{low:g} – {high:g} of maximum", low, high, shares[code], 12, (low + high) / 2))
    groups.append(_group(6, "Does not fire · hard", None, None, None, 8, 0.0))
    groups.append(_group(7, "Does not fire · random", None, None, None, 8, 0.0))
    return tuple(groups)


def _group(
    code: int, name: str, low: float | None, high: float | None, share: float | None, total: int, peak: float
) -> ExampleGroup:
    longer = [TEXTS[(code + i) % 5] + TEXTS[(code + i + 1) % 5] for i in range(4 if code == 0 else 2)]
    rows = tuple(
        example(text, group=code, peak=MAXIMUM * peak * (1 - 0.06 * i), line=118 + 7 * code + i)
        for i, text in enumerate(longer)
    )
    return ExampleGroup(code=code, name=name, low=low, high=high, share=share, total=total, examples=rows)


def model_card() -> ModelCard:
    return ModelCard(
        id=1,
        slug="facet-demo",
        name="Facet demo model",
        family="gpt2",
        n_layers=4,
        d_model=256,
        context_size=256,
        d_vocab=4096,
        revision="sha256:5a1f0c9e77",
        n_dictionaries=4,
        n_features=8192,
        description="Trained by this project on Python source.",
    )


def source_card() -> SourceCard:
    return SourceCard(
        id=1,
        model="facet-demo",
        source="2-res-jump",
        release="facet-demo",
        hook_point="blocks.2.hook_resid_post",
        hook_point_out="blocks.2.hook_resid_post",
        layer=2,
        architecture="jumprelu",
        n_features=2048,
        d_in=256,
        d_out=256,
        k=None,
        sha256="9f2c1b7a44d05e10" * 4,
        built_at=MOMENT,
        n_tokens=1_048_576,
        n_contexts=4_112,
        corpus="Python source",
        corpus_slug="python-source",
        l0_mean=28.4,
        l0_median=27.0,
        l0_p90=41.0,
        explained_variance=0.883,
        dead=14,
        dense=6,
    )


LABELS = (
    "raising an exception, just before its class",
    "keyword after a closing parenthesis in a type annotation of several lines",
    "",
    "‘self’ as first parameter",
    "numbers in hexadecimal",
    "end of a docstring",
    "imports from the same package",
    "السطر الأخير of a right-to-left comment",
)


def feature_rows(first: int = 1204, count: int = 12) -> tuple[FeatureRow, ...]:
    return tuple(
        FeatureRow(
            dictionary=1,
            model="facet-demo",
            source="2-res-jump",
            index=first + i,
            label=LABELS[i % len(LABELS)],
            label_author="" if i % 3 else "ada",
            density=0.0 if i == 2 else 10 ** (-1.2 - 0.4 * (i % 8)),
            firing_count=0 if i == 2 else 4_000 // (i + 1),
            maximum=0.0 if i == 2 else MAXIMUM - 0.7 * (i % 8),
            token_entropy=0.4 * (i % 7),
            peak_tokens=() if i == 2 else (" raise", "\n            ", " ValueError", "(", " from")[i % 2 : i % 2 + 4],
            promoted_tokens=(" ValueError", " TypeError", " NotImplementedError", " StopIteration"),
            n_explanations=1 + i % 3,
            matched="",
        )
        for i in range(count)
    )


def feature_card() -> FeatureCard:
    """Return a feature with every panel filled."""
    edges = tuple(0.05 * (MAXIMUM / 0.05) ** (i / 50) for i in range(51))
    counts = tuple(
        int(900 * math.exp(-(((i - 21) / 11) ** 2)) + 60 * math.exp(-(((i - 42) / 4) ** 2))) for i in range(50)
    )
    logit_edges = tuple(-1.6 + 0.1 * i for i in range(41))
    logit_counts = tuple(int(620 * math.exp(-(((i - 15.5) / 4.2) ** 2)) + (i > 32) * 2) for i in range(40))
    promoted = (" ValueError", " TypeError", " NotImplementedError", " KeyError", " RuntimeError", " StopIteration")
    suppressed = (" the", "\n", " of", ".", " and", "ing")
    return FeatureCard(
        source=source_card(),
        index=1209,
        label=LABELS[0],
        firing_count=4_412,
        context_count=1_310,
        density=0.00421,
        density_low=0.00409,
        density_high=0.00434,
        maximum=MAXIMUM,
        mean=2.31,
        deviation=1.94,
        skewness=1.62,
        kurtosis=2.7,
        token_entropy=1.38,
        burstiness=3.37,
        peak_tokens=tuple(
            PeakToken(text=text, share=share, firings=firings)
            for text, share, firings in (
                (" raise", 0.71, 612),
                ("\n            raise", 0.22, 188),
                (" Error", 0.0412, 41),
                ("(", 0.0091, 9),
            )
        ),
        next_tokens=((" ValueError", 21), (" TypeError", 8), ("\n", 2)),
        activations=Histogram(edges=edges, counts=counts, log_x=True),
        logits=Histogram(edges=logit_edges, counts=logit_counts),
        logit_skewness=0.41,
        logit_kurtosis=1.2,
        promoted=tuple(TokenEffect(token_id=900 + i, text=t, value=2.31 - 0.21 * i) for i, t in enumerate(promoted)),
        suppressed=tuple(
            TokenEffect(token_id=100 + i, text=t, value=-1.42 + 0.12 * i) for i, t in enumerate(suppressed)
        ),
        decoder_neighbours=_neighbours(0.81),
        encoder_neighbours=_neighbours(0.67),
        co_firing=_neighbours(0.34),
        explanations=(
            ExplanationCard(id=1, text=LABELS[0], method="", author="ada", created_at=MOMENT, votes=3, my_vote=1),
            ExplanationCard(
                id=2,
                text="“raise” after a line break; promotes “ValueError”, “TypeError”",
                method="token-context-logit",
                author="",
                created_at=MOMENT,
            ),
        ),
        comments=(
            CommentCard(id=1, author="grace", text="Also fires on bare re-raise.\nRarely, though.", created_at=MOMENT),
        ),
        lists=(list_card(), replace(list_card(), id=2, name="Control flow", contains=True)),
        previous_index=1208,
        next_index=1210,
        flags=("token-bound",),
    )


def _neighbours(first: float) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(index=311 * (i + 1) % 2048, value=first * 0.86**i, label=LABELS[(i + 3) % len(LABELS)], density=0.002)
        for i in range(6)
    )


def list_card() -> ListCard:
    return ListCard(
        id=1,
        name="Errors and exceptions",
        owner="ada",
        description="Everything that has to do with raising and catching.",
        n_members=17,
        updated_at=MOMENT,
        mine=True,
    )


def run_cards() -> tuple[RunCard, ...]:
    base = RunCard(
        id=7,
        kind="build",
        title="Dashboards of facet-demo: 4 dictionaries",
        state="running",
        phase="encode",
        phases=("read", "encode", "reduce", "store"),
        done=412_000,
        total=1_048_576,
        unit="tokens",
        rate=6_250.0,
        eta_seconds=101.9,
        started_at=MOMENT,
        finished_at=None,
        created_at=MOMENT,
        started_by="ada",
        log=("Scanning 4,112 contexts in 33 shards.", "Shard 12 of 33 is done."),
        can_cancel=True,
    )
    return (
        base,
        replace(
            base,
            id=6,
            state="done",
            phase="store",
            done=2,
            total=2,
            finished_at=MOMENT + timedelta(minutes=3),
            can_cancel=False,
        ),
        replace(
            base,
            id=5,
            state="failed",
            error="The disk is full: 12 MB left, a shard needs 40 MB.",
            remedy="Free some space and resume; finished shards are kept.",
            can_cancel=False,
            can_resume=True,
        ),
    )


def shards() -> Shards:
    """Return shards in every state, of two workers, one of which failed at two of them."""
    states = ["made"] * 21 + ["in work", "failed", "in work", "waiting", "failed"] + ["waiting"] * 30
    disk = ShardFailure(worker="batch@two:41f0c2aa", error="No space left on device: 12 MB are left.", at=MOMENT)
    lost = ShardFailure(worker="batch@two:41f0c2aa", error="The worker was lost.", at=MOMENT + timedelta(minutes=1))
    cards = tuple(
        ShardCard(
            number=number,
            state=state,
            n_tokens=16_384,
            done={"made": 16_384, "in work": 6_100}.get(state, 0),
            worker=f"batch@{('one:9c11d7e4', 'two:41f0c2aa')[number % 3 == 0]}" if state in ("made", "in work") else "",
            attempts={"waiting": 0}.get(state, 1),
            failures=(disk, lost) if state == "failed" else (),
        )
        for number, state in enumerate(states)
    )
    workers = (
        WorkerPart(name="batch@one:9c11d7e4", made=14, tokens=235_476, at_work_on=(23,), failures=0),
        WorkerPart(name="batch@two:41f0c2aa", made=7, tokens=120_788, at_work_on=(21,), failures=4),
    )
    return Shards(shards=cards, workers=workers, n_shards=56, made=21, in_work=2, waiting=31, failed=2)


def traced_text() -> TracedText:
    """Return where a feature comes from: with a character of two tokens, and where rounding can be seen."""
    names = ("<bos>", "def", " read", "(", " 東", "\ufffd", "):", "\n    ", "raise", " ValueError")
    tokens = tuple(
        PromptToken(position=i, token_id=11 + i, text="" if i in (0, 5) else name, name=name, is_bos=i == 0)
        for i, name in enumerate(names)
    )

    def traced(position: int, values: tuple[float, ...], *, remainder: float, fires: bool = True) -> TracedToken:
        total, bias = sum(values), -0.31
        whole = total + bias + remainder
        heads = tuple(
            TracedHead(
                head=head,
                total=share * total,
                source=at,
                source_token=names[at],
                value=0.9 * share * total,
                weight=weight,
            )
            for head, share, at, weight in ((2, 0.9, 8, 0.83), (0, 0.2, 1, 0.31), (3, -0.1, 4, 0.052))
        )
        return TracedToken(
            position=position,
            token=names[position],
            activation=whole if fires else 0.0,
            pre_activation=whole,
            sources=values + (0.0,) * (len(tokens) - len(values)),
            total=total,
            bias=bias,
            remainder=remainder,
            heads=heads,
        )

    return TracedText(
        model="facet-demo",
        source="2-att-topk",
        index=780,
        text="def read(東):\n    raise ValueError",
        tokens=tokens,
        traced=(
            traced(9, (0.1, 0.02, -0.4, 0.0, 0.3, -0.2, 0.04, 0.5, 4.9, -0.6), remainder=1.5e-8),
            traced(8, (0.2, 0.4, 0.0, -0.1, 0.2, 0.1, 0.0, 0.9, 2.2), remainder=0.024),
            traced(6, (0.02, -0.5, 0.1, 0.0, 0.2, 0.1, 0.3), remainder=0.0, fires=False),
        ),
        n_firing=7,
        n_heads=4,
        frozen_norm=True,
        truncated_from=None,
        provenance=LiveProvenance(
            model="facet-demo",
            revision="sha256:5a1f0c9e77",
            dictionaries=(("2-att-topk", "9f2c1b7a44d05e10" * 4),),
            dtype="float32",
            device="cpu",
            worker="engine@one",
            seconds=0.03,
        ),
    )


def search_results() -> SearchResults:
    rows = tuple(replace(row, matched="explanation") for row in feature_rows(count=3))
    return SearchResults(
        query="raise",
        terms=("raise",),
        ignored=(),
        explanations=rows,
        peak_tokens=feature_rows(1300, 2),
        promoted_tokens=(),
        contexts=(
            ContextHit(
                text=TEXTS[2],
                document="lib/python3.11/argparse.py",
                document_url="/patterns/",
                line=118,
                model="facet-demo",
                matched=((42, 47),),
                features=feature_rows(count=2),
            ),
        ),
        totals=SearchTotals(explanations=41, peak_tokens=2, contexts=500, capped=("contexts",)),
    )


def page_of_rows() -> Page[FeatureRow]:
    return Page(rows=feature_rows(count=12), number=1, n_pages=41, total=2048)


def errors() -> Histogram:
    """Return tokens by relative error, most of them near a quarter."""
    counts = tuple(int(52_000 * math.exp(-(((i - 24) / 9) ** 2)) + 40 * (i > 40)) for i in range(70))
    return Histogram(edges=tuple(i / 100 for i in range(71)), counts=counts)


def densities() -> Histogram:
    edges = tuple(10 ** (-6 + 0.15 * i) for i in range(41))
    counts = tuple(int(190 * math.exp(-(((i - 21) / 5.5) ** 2)) + 9 * (i == 36)) for i in range(40))
    return Histogram(edges=edges, counts=counts, log_x=True)
