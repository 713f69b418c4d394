"""What selectors return: frozen values shaped for pages and the API, without querysets or tensors.

Tokens of a context are given by `starts` and `ends`, character offsets into `text`; tokens that share a
multi-byte character have the same span. Activations are sparse: `positions[i]` is the token that fires with
`values[i]`, in the units of the dictionary. Shares and densities are fractions in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from features.fidelity import Fidelity
from features.origins import Origin
from inference.attention_outputs import untraceable
from inference.dictionaries.config import has_directions

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One language model, as home and model pages show it; `has_chat`: its tokenizer has a chat template."""

    id: int
    slug: str
    name: str
    family: str
    n_layers: int
    d_model: int
    context_size: int
    d_vocab: int
    revision: str
    n_dictionaries: int
    n_features: int
    description: str = ""
    has_chat: bool = False

    @property
    def url(self) -> str:
        return f"/{self.slug}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCard:
    """One dictionary. The figures of the build are None until its dashboards are built.

    Without `has_weights` it is known from imported files alone, and nothing can be run on it.

    `model_revision`, `precision`, `context_size` and `excluded` (what statistics leave out) are those of the build.
    `origin` is what the dictionary's own files say.
    """

    id: int
    model: str
    source: str
    release: str
    hook_point: str
    hook_point_out: str
    layer: int
    architecture: str
    n_features: int
    d_in: int
    d_out: int
    k: int | None
    sha256: str
    built_at: datetime | None
    n_tokens: int | None = None
    n_contexts: int | None = None
    corpus: str = ""
    corpus_slug: str = ""
    l0_mean: float | None = None
    l0_median: float | None = None
    l0_p90: float | None = None
    explained_variance: float | None = None
    dead: int | None = None
    dense: int | None = None
    running_run: int | None = None
    has_weights: bool = True
    model_revision: str = ""
    precision: str = ""
    context_size: int | None = None
    excluded: str = ""
    fidelity: Fidelity | None = None
    evaluating_run: int | None = None
    origin: Origin | None = None

    @property
    def url(self) -> str:
        return f"/{self.model}/{self.source}"

    @property
    def is_transcoder(self) -> bool:
        return self.hook_point_out != self.hook_point

    @property
    def has_directions(self) -> bool:
        """Whether a feature writes one direction, by which the model can be steered."""
        return has_directions(self.architecture)

    @property
    def has_sources(self) -> bool:
        """Whether its features can be traced through attention to the tokens that they come from."""
        return self.has_weights and not untraceable(architecture=self.architecture, hook_in=self.hook_point)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCard:
    """Dictionaries published together."""

    slug: str
    name: str
    description: str
    url: str
    n_dictionaries: int
    n_features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What there is: models, releases, and what was built last."""

    models: tuple[ModelCard, ...]
    releases: tuple[ReleaseCard, ...]
    latest: tuple[SourceCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """A model with its dictionaries, in order of depth."""

    model: ModelCard
    sources: tuple[SourceCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationCard:
    """One explanation of a feature; `author` is empty for methods."""

    id: int
    text: str
    method: str
    author: str
    created_at: datetime
    votes: int = 0
    my_vote: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)
    mine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommentCard:
    id: int
    author: str
    text: str
    created_at: datetime
    mine: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakToken:
    """A vocabulary entry with the share of a feature's activation that falls on it, and in how many firings."""

    text: str
    share: float
    firings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEffect:
    """A vocabulary entry with the feature's direct effect on its logit, centred over the vocabulary.

    `z` is the effect in standard deviations of the feature's effects on all of the vocabulary.
    """

    token_id: int
    text: str
    value: float
    z: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts per bin; `edges` has one entry more than `counts`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    log_x: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another feature and how near it is; of one that fires at the same tokens, also how often each way.

    `share_here` is the share of this feature's firings at which the other fires too, `share_there` the other way round.
    """

    index: int
    value: float
    label: str
    density: float
    share_here: float | None = None
    share_there: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleCard:
    """A feature's recorded activations in one context."""

    context: int
    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    values: tuple[float, ...]
    peak_position: int
    peak_value: float
    document: str
    document_url: str
    line: int
    split: str
    group: int
    n_similar: int = 0
    has_bos: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleGroup:
    """Examples of one group: the top, a band of activation, or contexts where the feature is silent.

    `share` is the share of the feature's firing tokens whose activation lies in the band (None for top and silent).
    """

    code: int
    name: str
    low: float | None
    high: float | None
    share: float | None
    total: int
    examples: tuple[ExampleCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRow:
    """A feature in a list; `matched` says why a search found it, `group` is its level in a Matryoshka dictionary.

    `share` is the share of its activation on the token that a list is filtered by.
    """

    dictionary: int
    model: str
    source: str
    index: int
    label: str
    label_author: str
    density: float
    firing_count: int
    maximum: float
    token_entropy: float
    peak_tokens: tuple[str, ...]
    promoted_tokens: tuple[str, ...]
    n_explanations: int = 0
    matched: str = ""
    group: int | None = None
    share: float | None = None

    @property
    def url(self) -> str:
        return f"/{self.model}/{self.source}/{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCard:
    """Everything that a feature page shows at once, except examples; `group` as in FeatureRow."""

    source: SourceCard
    index: int
    label: str
    firing_count: int
    context_count: int
    density: float
    density_low: float
    density_high: float
    maximum: float
    mean: float
    deviation: float
    skewness: float | None
    kurtosis: float | None
    token_entropy: float
    burstiness: float
    peak_tokens: tuple[PeakToken, ...]
    next_tokens: tuple[tuple[str, int], ...]
    activations: Histogram
    logits: Histogram
    logit_skewness: float | None
    logit_kurtosis: float | None
    promoted: tuple[TokenEffect, ...]
    suppressed: tuple[TokenEffect, ...]
    decoder_neighbours: tuple[Neighbour, ...]
    encoder_neighbours: tuple[Neighbour, ...]
    co_firing: tuple[Neighbour, ...]
    explanations: tuple[ExplanationCard, ...]
    comments: tuple[CommentCard, ...]
    lists: tuple[ListCard, ...]
    previous_index: int | None
    next_index: int | None
    flags: tuple[str, ...] = ()
    group: int | None = None
    co_firing_measure: str = "jaccard"  # or "correlation", of imported files
    co_firing_exact: bool = True  # False: tokens where both fire were counted in part, and there may be more

    @property
    def url(self) -> str:
        return f"{self.source.url}/{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """One page of a longer list."""

    rows: tuple[Row, ...]
    number: int
    n_pages: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFilters:
    """What a page of a dictionary's features keeps, and in which order.

    `text` is looked for in explanations, `token` among the peak tokens. Densities are shares of tokens, entropies nats.
    `state` is "", "alive", "dead" or "dense"; `group` is a level of a Matryoshka dictionary, from 0; `sort` one of
    SORTS, with a leading "-" for descending; "share" of the activation on `token`.
    """

    SORTS: ClassVar[tuple[str, ...]] = ("index", "density", "maximum", "entropy", "share")
    STATES: ClassVar[tuple[str, ...]] = ("", "alive", "dead", "dense")

    text: str = ""
    token: str = ""
    density_low: float | None = None
    density_high: float | None = None
    entropy_low: float | None = None
    entropy_high: float | None = None
    state: str = ""
    group: int | None = None
    sort: str = "index"
    page: int = 1
    per_page: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePage:
    """A dictionary and one page of its features.

    `densities` counts its live features by density, on a log axis; `l0` the tokens of the build by how many features
    fire, those from a bin's lower edge up to before its upper one; `errors` by the length of what it misses, as a share
    of what it should have given: the last bin takes all from its edge on.
    """

    source: SourceCard
    filters: SourceFilters
    features: Page[FeatureRow]
    densities: Histogram | None
    l0: Histogram | None = None
    errors: Histogram | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """A list with its features; `notes` are as many as the rows."""

    card: ListCard
    features: Page[FeatureRow]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPage:
    """A document of a corpus as it was read: `changed` says that the file differs from what was registered."""

    corpus: str
    corpus_slug: str
    ordinal: int
    name: str
    split: str
    sha256: str
    lines: tuple[str, ...]
    changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFeatureRow:
    """A feature that fires on a token id: how often, and how strongly.

    `strength`, 0 to 1, is the activation to expect there as a share of the feature's maximum; `share` is that of the
    token's occurrences at which the feature fires.
    """

    index: int
    count: int
    share: float
    strength: float
    label: str
    density: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFeatures:
    """The features of a dictionary that fire most on one token id, strongest first."""

    token_id: int
    text: str
    occurrences: int
    features: tuple[TokenFeatureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePage:
    """What a feature's page shows: its card, the first examples of each group, and the features around it."""

    feature: FeatureCard
    groups: tuple[ExampleGroup, ...]
    rail: tuple[FeatureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCard:
    id: int
    name: str
    owner: str
    description: str
    n_members: int
    updated_at: datetime
    contains: bool = False
    mine: bool = False

    @property
    def url(self) -> str:
        return f"/lists/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextHit:
    """The part of a stored context around its first match, whose line `line` is, with the features that peak there.

    `matched` are character spans of `text`. The features have the context among their top ones and peak at the match.
    """

    text: str
    document: str
    document_url: str
    line: int
    model: str
    matched: tuple[tuple[int, int], ...]
    features: tuple[FeatureRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTotals:
    """How many hits there are of each kind; `capped` names the kinds that were not counted to the end."""

    explanations: int = 0
    peak_tokens: int = 0
    promoted_tokens: int = 0
    contexts: int = 0
    capped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    """The first hits per kind of evidence, explanations, peak tokens, promoted tokens, contexts, and their totals.

    `terms` says how the query was understood; `ignored` names terms that could not be.
    """

    query: str
    terms: tuple[str, ...]
    ignored: tuple[str, ...]
    explanations: tuple[FeatureRow, ...]
    peak_tokens: tuple[FeatureRow, ...]
    promoted_tokens: tuple[FeatureRow, ...]
    contexts: tuple[ContextHit, ...]
    totals: SearchTotals = SearchTotals()
