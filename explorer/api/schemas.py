"""What callers of the API send. What they get is the values of `features.results` and `explorer.live_values`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len
from ninja import Field, Schema
from pydantic import ConfigDict

from explorer.live_queries import MAX_EDITS, MAX_SOURCES, MAX_STRENGTH, MAX_TOKENS, MAX_TOP
from explorer.tracing import MAX_DESTINATIONS


class Body(Schema):
    """A body whose unknown fields are refused: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class TokenIn(Body):
    """Name and password of an account."""

    username: str
    password: str


class TokenOut(Schema):
    """A bearer token and for how many days it is good."""

    token: str
    days: int


class Account(Schema):
    """Who the caller is; empty for a visitor."""

    username: str


class ActivationsIn(Body):
    """Features of one source and a text."""

    model: str
    source: str
    indices: Annotated[list[int], Len(1, 64)]
    text: str
    truncate: bool = Field(False, description="Cut a text that is longer than the model's context.")


class AttributionsIn(Body):
    """A feature of a dictionary of attention's outputs, and a text."""

    model: str
    source: str
    index: int = Field(ge=0)
    text: str
    positions: Annotated[list[int], Len(1, MAX_DESTINATIONS)] | None = Field(
        None, description="Tokens to explain; null: the twelve at which the feature fires most."
    )
    truncate: bool = Field(False, description="Cut a text that is longer than the model's context.")
    chat: bool = Field(False, description="Format the text by the model's chat template.")


class PromptIn(Body):
    """A text, and how to rank the features that fire in it."""

    model: str
    sources: Annotated[list[str], Len(0, MAX_SOURCES)] = Field([], description="Empty: all sources of the model.")
    text: str
    rank: Literal["max", "share", "mean"] = "max"
    density: float | None = Field(None, ge=0, le=1, description="Hide features that fire on a larger share of tokens.")
    at: str = Field("", description='Rank by these token positions only, as "4-7,9".')
    top: int = Field(50, ge=1, le=MAX_TOP)
    truncate: bool = False
    chat: bool | None = Field(
        None, description="Format the text by the model's chat template; null leaves it to what the sources say."
    )


class EditIn(Body):
    """A feature and its strength, in units of the feature's maximum."""

    source: str
    index: int = Field(ge=0)
    strength: float = Field(1.0, ge=-MAX_STRENGTH, le=MAX_STRENGTH)


class SteerIn(Body):
    """A steering recipe. With `wait` the answer holds both texts; without, the address of the events."""

    model: str
    text: str
    edits: Annotated[list[EditIn], Len(1, MAX_EDITS)]
    n_tokens: int = Field(48, ge=1, le=MAX_TOKENS)
    temperature: float = Field(0.7, ge=0, le=5)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    truncate: bool = False
    wait: bool = False


class LabelIn(Body):
    """What the caller thinks a feature means."""

    text: str


class VoteIn(Body):
    """1 agrees, -1 disagrees, 0 withdraws the vote."""

    value: Literal[-1, 0, 1]


class Votes(Schema):
    """The sum of all votes on an explanation."""

    votes: int


class CommentIn(Body):
    """A remark on a feature."""

    text: str


class ListIn(Body):
    """A new list."""

    name: str
    description: str = ""


class ListEdit(Body):
    """A new name and description of a list; without a description the old one stays."""

    name: str
    description: str | None = None


class MemberIn(Body):
    """A feature for a list."""

    model: str
    source: str
    index: int
    note: str = ""


class RunIn(Body):
    """A build of dashboards. Without sources all of the model are built, in one pass over the text."""

    model: str
    sources: Annotated[list[str], Len(0, MAX_SOURCES)] = []
    corpus: str = Field("", description="The only corpus there is, by default.")
    n_tokens: int | None = Field(None, ge=1, description="Tokens to scan; a million by default.")
    context_size: int | None = Field(None, ge=1, description="Tokens in a context, BOS included; 128 by default.")


class EvaluationIn(Body):
    """A measurement of fidelity. Without sources all of the model are measured, on the same text."""

    model: str
    sources: Annotated[list[str], Len(0, MAX_SOURCES)] = []
    corpus: str = Field("", description="The only corpus there is, by default.")
    n_tokens: int | None = Field(None, ge=1, description="Tokens to read; 100,000 by default.")
    split: Literal["test", "train", "all"] = "test"
    context_size: int | None = Field(None, ge=1, description="Tokens in a context, BOS included; 128 by default.")


class EstimateIn(Body):
    """A build whose cost is asked for."""

    model: str
    sources: Annotated[list[str], Len(0, MAX_SOURCES)] = []
    n_tokens: int = Field(1_000_000, ge=1)


class DictionaryPlace(Body):
    """Where to look for dictionaries."""

    path: str = Field(description="A folder or file on the machine of Facet, or owner/name@commit:folder of a hub.")
    match: str = Field("", description="A pattern of places below the path, for several: *width_16k*.")
    model: str = Field("", description="The model that they must fit; whichever fits, by default.")


class DictionariesIn(DictionaryPlace):
    """Dictionaries to add. With a `source` it is the one at the path, under that id."""

    source: str = ""
    release: str = ""


class ModelPlace(Body):
    """Where to look for a language model."""

    path: str = Field(description="A folder on the machine of Facet, or owner/name of a hub.")
    revision: str = ""


class ModelIn(ModelPlace):
    """A model to add."""

    name: str = Field("", description="Its name in addresses; that of the folder, by default.")
    description: str = ""


class CorpusPlace(Body):
    """Where to look for text."""

    path: str = Field(description="A folder or a file on the machine of Facet, or hub:OWNER/NAME, a dataset.")
    glob: str = Field("", description="Which files of the folder; all but hidden ones, by default.")
    field: str = Field("text", description="The field of the text in lines of JSON and in Parquet.")
    name: str = ""


class CorpusIn(CorpusPlace):
    """A text to add."""

    limit: int | None = Field(None, ge=1, description="Documents of a dataset; 100,000 by default.")
    description: str = ""
