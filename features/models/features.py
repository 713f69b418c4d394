"""Features and their examples, in partitions by dictionary that a build swaps in one transaction."""

from typing import Any

from django.db import models
from django.utils.functional import cached_property

from features import packed_features
from features.models.dictionaries import Dictionary
from features.querysets import FeatureQuerySet


class Float4Field(models.FloatField):
    """A float of four bytes."""

    def db_type(self, connection: object) -> str:
        return "real"


class Drawn:
    """What is in the packed bytes of a feature, under its name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, feature: "Feature | None", owner: type | None = None) -> Any:
        return self if feature is None else feature.drawn[self.name]


class Feature(models.Model):
    """One entry of a dictionary and its statistics over the tokens of the build, BOS and padding excluded.

    All but what SQL filters or sorts by is packed (features.packed_features) and read under its name. `total`,
    `total_2`, `total_3`, `total_4` are sums over firing tokens of the activation and its powers. Lists that belong
    together have the same length: ids with their counts, shares or values, best first. `histogram` counts firing tokens
    in the bins of the dictionary's `stats["log_edges"]`; `logit_histogram` counts vocabulary entries by centred logit
    effect in equal bins from `logit_low` to `logit_high`. `band_counts[i]` estimates the firing tokens of band i + 1
    (inference.dashboards.results.BANDS). `token_entropy` is in nats. `next_token_ids` follow the peaks in contexts,
    with in how many of them in `next_token_counts`.
    """

    pk = models.CompositePrimaryKey("dictionary_id", "index")
    # In order of alignment, so that Postgres pads nothing.
    firing_count = models.BigIntegerField()
    index = models.IntegerField()
    maximum = Float4Field()
    token_entropy = Float4Field()
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="features"
    )
    packed = models.BinaryField()

    total = Drawn()
    total_2 = Drawn()
    total_3 = Drawn()
    total_4 = Drawn()
    context_count = Drawn()
    n_tokens_seen = Drawn()
    logit_low = Drawn()
    logit_high = Drawn()
    logit_deviation = Drawn()
    logit_skewness = Drawn()
    logit_kurtosis = Drawn()
    band_counts = Drawn()
    peak_token_ids = Drawn()
    peak_token_counts = Drawn()
    peak_token_shares = Drawn()
    promoted_ids = Drawn()
    promoted_values = Drawn()
    histogram = Drawn()
    logit_histogram = Drawn()
    next_token_ids = Drawn()
    next_token_counts = Drawn()
    suppressed_ids = Drawn()
    suppressed_values = Drawn()
    co_firing_ids = Drawn()
    co_firing_jaccards = Drawn()
    decoder_neighbour_ids = Drawn()
    decoder_neighbour_cosines = Drawn()
    encoder_neighbour_ids = Drawn()
    encoder_neighbour_cosines = Drawn()

    objects = FeatureQuerySet.as_manager()

    @cached_property
    def drawn(self) -> dict[str, Any]:
        """What is packed, by name; raise BadBytes."""
        return packed_features.unpack(self.packed, self.firing_count)


class Example(models.Model):
    """The examples of a feature, if it has any: activations in some contexts, packed by features.packed_examples."""

    pk = models.CompositePrimaryKey("dictionary_id", "index")
    index = models.IntegerField()
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="examples"
    )
    packed = models.BinaryField()


class TokenFeature(models.Model):
    """The features of a dictionary that fire most on each of a block of token ids, packed by packed_tokens.

    A strength, 0 to 1, is the expected activation on the token id as a share of the feature's maximum
    (inference.dashboards.token_index); with it are the firings on the id, and how often the text has it.
    """

    pk = models.CompositePrimaryKey("dictionary_id", "block")
    block = models.IntegerField()
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="token_features"
    )
    packed = models.BinaryField()


class Posting(models.Model):
    """The features of a dictionary that have each of a block of tokens, or of contexts, packed by features.postings.

    One table for all dictionaries, in order of what is looked for: search reads it without a plan for every partition.
    """

    pk = models.CompositePrimaryKey("kind", "block", "dictionary_id")
    block = models.IntegerField()
    kind = models.SmallIntegerField()
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, related_name="postings"
    )
    packed = models.BinaryField()
