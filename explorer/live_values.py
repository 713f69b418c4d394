"""Contexts of the live pages: frozen values that views compute and templates show (`prompt.html`, `steer.html`, ...).

Positions count tokens of the text that was sent, BOS included at 0 where the model has one. Values are activations in
the units of their dictionary; `share` is a value over the feature's maximum of the build, None where the dictionary
is not built. `level` is the step 0-20 of the positive colour ramp (classes `p0` to `p20`), on a square-root scale so
that weak and strong activations stay apart. This module imports neither torch nor Django.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from explorer.ramps import activation_level
from features.results import ModelCard, SourceCard
from features.run_results import RunCard


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One option of a control; `hint` explains it in a line."""

    value: str
    name: str
    selected: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageError:
    """An error shown in place. `retry`: the same request may succeed later; `offer_cut`: the text may be truncated."""

    code: str
    cause: str
    remedy: str
    details: dict[str, Any] = field(default_factory=dict)
    retry: bool = False
    offer_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptToken:
    """A token as shown. `text` is empty for all but the first token of a multi-byte character; `name` never is.

    `is_template` says that a chat template wrote it.
    """

    position: int
    token_id: int
    text: str
    name: str
    is_bos: bool = False
    selected: bool = False
    is_template: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenValue:
    """A token on which a feature fires."""

    position: int
    value: float
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeature:
    """A feature that fires in the prompt. `score` is what the chosen ranking sorts by; `rank` starts at 1.

    Without `can_steer` it writes no direction of its own. With `has_sources` it can be traced to source tokens.
    """

    rank: int
    model: str
    source: str
    index: int
    label: str
    score: float
    peak: float
    peak_position: int
    peak_token: str
    mean: float
    share: float | None
    maximum: float | None
    density: float | None
    values: tuple[TokenValue, ...]
    can_steer: bool = True
    has_sources: bool = False

    @property
    def url(self) -> str:
        return f"/{self.model}/{self.source}/{self.index}"

    @property
    def level(self) -> int:
        return activation_level(self.peak, self.maximum or self.peak)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProvenance:
    """What answered: printed under every live result."""

    model: str
    revision: str
    dictionaries: tuple[tuple[str, str], ...]  # (source, sha256)
    dtype: str
    device: str
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptResult:
    """Ranked features of a text. `n_hidden` features fired but are denser than the density limit.

    With `chat` the text is what the model's chat template made of it.
    """

    text: str
    tokens: tuple[PromptToken, ...]
    features: tuple[PromptFeature, ...]
    n_firing: int
    n_hidden: int
    ignores_bos: bool
    truncated_from: int | None
    provenance: LiveProvenance
    chat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """The whole prompt page (`prompt.html`); `_prompt_result.html` needs `result`, `error` and `query` only.

    `query` is the query string that reproduces the page. `rank` is one of max, share, mean; `at` restricts positions.
    """

    models: tuple[ModelCard, ...]
    model: ModelCard | None
    sources: tuple[tuple[SourceCard, bool], ...]  # (source, is chosen)
    text: str
    rank: str
    ranks: tuple[Choice, ...]
    density: float | None
    densities: tuple[Choice, ...]
    at: str
    top: int
    truncate: bool
    query: str
    max_bytes: int
    chats: tuple[Choice, ...] = ()
    result: PromptResult | None = None
    error: PageError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedText:
    """One feature on one text: what the test box of a feature page shows (`_test_result.html`)."""

    model: str
    source: str
    index: int
    text: str
    tokens: tuple[PromptToken, ...]
    levels: tuple[int, ...]  # one per token
    values: tuple[float, ...]  # one per token
    peak: float
    peak_position: int | None
    share: float | None
    maximum: float | None
    truncated_from: int | None
    provenance: LiveProvenance


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedHead:
    """What a head adds, all sources together; its main source, what comes from there, and its share of attention."""

    head: int
    total: float
    source: int
    source_token: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedToken:
    """What each token adds to a feature at the token `position`, through attention; `sources` has one value a token.

    pre_activation = total + bias + remainder: the sum of the sources, the biases, and what rounding leaves.
    """

    position: int
    token: str
    activation: float
    pre_activation: float
    sources: tuple[float, ...]
    total: float
    bias: float
    remainder: float
    heads: tuple[TracedHead, ...]

    @property
    def is_rounded(self) -> bool:
        """Tell whether rounding leaves enough to be told: a thousandth of what is added up, which three digits show."""
        return abs(self.remainder) >= 1e-3 * max(abs(self.total), abs(self.bias), abs(self.pre_activation))

    @property
    def scale(self) -> float:
        """The largest source, which ends the scale of colours."""
        return max(map(abs, self.sources), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedText:
    """Where a feature of attention's outputs comes from in a text (`_traced.html`), strongest destination first.

    `n_firing` counts the tokens where it fires. With `frozen_norm` a norm between attention and the dictionary is held
    as it is at each destination.
    """

    model: str
    source: str
    index: int
    text: str
    tokens: tuple[PromptToken, ...]
    traced: tuple[TracedToken, ...]
    n_firing: int
    n_heads: int
    frozen_norm: bool
    truncated_from: int | None
    provenance: LiveProvenance

    @property
    def url(self) -> str:
        return f"/{self.model}/{self.source}/{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerFeature:
    """A feature of a steering recipe; `strength` is in units of the feature's maximum and may be negative."""

    model: str
    source: str
    index: int
    strength: float
    label: str
    maximum: float | None
    hook_point: str

    @property
    def url(self) -> str:
        return f"/{self.model}/{self.source}/{self.index}"

    @property
    def address(self) -> str:
        return f"{self.source}/{self.index}"

    @property
    def recipe(self) -> str:
        """Return the form that the query string and the form field `f` carry, e.g. `1-res-topk/12@1.5`."""
        return f"{self.source}/{self.index}@{self.strength:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeredToken:
    """A generated token; `differs` from the default row's token at the same place."""

    text: str
    logprob: float
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerRow:
    """One generated text: row 0 is the default, row 1 the steered one."""

    row: int
    name: str
    text: str
    tokens: tuple[SteeredToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerResult:
    """A finished generation. `first_difference` is the index of the first token in which the rows differ."""

    prompt: str
    rows: tuple[SteerRow, ...]
    first_difference: int | None
    stopped: str  # length | eos | context | cancelled | abandoned
    provenance: LiveProvenance


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerJob:
    """A generation under way: the page opens `events_url` (SSE) and posts to `cancel_url` to stop it.

    Events (JSON data): `queued` {position, starting}, `started` {worker}, `tokens` {tokens}, `token` {row, index, text,
    logprob, differs}, then one of `done` {rows: [{text, tokens}], ...} or `error` {code, cause, remedy, details}.
    """

    job_id: str
    events_url: str
    cancel_url: str
    prompt: str
    row_names: tuple[str, ...] = ("Default", "Steered")


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerView:
    """The whole steer page (`steer.html`); `_steer_run.html` needs `job`, `result`, `error`, `query` and `features`."""

    models: tuple[ModelCard, ...]
    model: ModelCard | None
    sources: tuple[SourceCard, ...]
    text: str
    features: tuple[SteerFeature, ...]
    n_tokens: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    truncate: bool
    query: str
    max_bytes: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    job: SteerJob | None = None
    result: SteerResult | None = None
    error: PageError | None = None
    add_source: str = ""
    add_index: str = ""
    add_error: PageError | None = None  # why the feature of the Add field is not in the recipe
    starts: bool = False  # the page generates when it has loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """Workers that are alive, by queue, and how many live requests wait."""

    engine: tuple[str, ...]
    batch: tuple[str, ...]
    starting: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsView:
    """The list of runs (`runs.html`)."""

    runs: tuple[RunCard, ...]
    workers: EngineStatus | None
    error: PageError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run (`run.html`, `_run.html`). While `live`, `events_url` sends event `run` with the HTML of `_run.html`.

    `may_control`: the reader started the run, or is staff, and so may stop and resume it.
    """

    run: RunCard
    live: bool
    events_url: str
    cancel_url: str
    resume_url: str
    signed_in: bool
    may_control: bool
    error: PageError | None = None
