"""Features and their examples, in partitions by dictionary that a build swaps in one transaction."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from features.models.dictionaries import Dictionary
from features.querysets import FeatureQuerySet


class Float4Field(models.FloatField):
    """A float of four bytes."""

    def db_type(self, connection: object) -> str:
        return "real"


class Feature(models.Model):
    """One entry of a dictionary and its statistics over the tokens of the build, BOS and padding excluded.

    `total`, `total_2`, `total_3`, `total_4` are sums over firing tokens of the activation and its powers. Arrays that
    belong together have the same length: ids with their counts, shares or values, best first. `histogram` counts firing
    tokens in the bins of the dictionary's `stats["log_edges"]`; `logit_histogram` counts vocabulary entries by centred
    logit effect in equal bins from `logit_low` to `logit_high`. `band_counts[i]` estimates the firing tokens of band
    i + 1 (inference.dashboards.results.BANDS). `token_entropy` is in nats. `next_token_ids` follow the peaks in
    contexts, with in how many of them in `next_token_counts`.
    """

    pk = models.CompositePrimaryKey("dictionary_id", "index")
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="features"
    )
    index = models.IntegerField()
    firing_count = models.BigIntegerField()
    total = models.FloatField()
    total_2 = models.FloatField()
    total_3 = models.FloatField()
    total_4 = models.FloatField()
    context_count = models.IntegerField()
    maximum = Float4Field()
    token_entropy = Float4Field()
    n_tokens_seen = models.IntegerField()
    logit_low = Float4Field()
    logit_high = Float4Field()
    logit_deviation = Float4Field()
    logit_skewness = Float4Field()
    logit_kurtosis = Float4Field()
    band_counts = ArrayField(Float4Field())
    histogram = ArrayField(models.IntegerField())
    logit_histogram = ArrayField(models.IntegerField())
    peak_token_ids = ArrayField(models.IntegerField())
    peak_token_counts = ArrayField(models.IntegerField())
    peak_token_shares = ArrayField(Float4Field())
    next_token_ids = ArrayField(models.IntegerField(), default=list)
    next_token_counts = ArrayField(models.IntegerField(), default=list)
    promoted_ids = ArrayField(models.IntegerField())
    promoted_values = ArrayField(Float4Field())
    suppressed_ids = ArrayField(models.IntegerField())
    suppressed_values = ArrayField(Float4Field())
    co_firing_ids = ArrayField(models.IntegerField())
    co_firing_jaccards = ArrayField(Float4Field())
    decoder_neighbour_ids = ArrayField(models.IntegerField())
    decoder_neighbour_cosines = ArrayField(Float4Field())
    encoder_neighbour_ids = ArrayField(models.IntegerField(), default=list)
    encoder_neighbour_cosines = ArrayField(Float4Field(), default=list)

    objects = FeatureQuerySet.as_manager()


class Example(models.Model):
    """A feature's recorded activations in one context; its tokens are those of the context.

    `group` is a code of features.results (0 top, 1-5 bands, 6-7 silent) and `rank` the place in the group. `positions`
    and `values` are packed by `inference.packing`. `fold` hashes the 16 tokens on either side of the peak: examples
    with the same fold are near-duplicates.
    """

    pk = models.CompositePrimaryKey("dictionary_id", "index", "group", "rank")
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="examples"
    )
    index = models.IntegerField()
    fold = models.BigIntegerField()
    context = models.IntegerField(help_text="ordinal of the context in the dictionary's tokenization")
    peak_value = Float4Field()
    group = models.SmallIntegerField()
    rank = models.SmallIntegerField()
    peak_position = models.SmallIntegerField()
    is_test = models.BooleanField()
    positions = models.BinaryField()
    values = models.BinaryField()


class TokenFeature(models.Model):
    """The features of a dictionary that fire most on one token id, strongest first.

    A strength, 0 to 1, is the expected activation on the token id as a share of the feature's maximum
    (inference.dashboards.token_index); `counts` are firings on it, and `occurrences` says how often the text has it.
    """

    pk = models.CompositePrimaryKey("dictionary_id", "token_id")
    dictionary = models.ForeignKey(
        Dictionary, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="token_features"
    )
    token_id = models.IntegerField()
    occurrences = models.BigIntegerField()
    feature_ids = ArrayField(models.IntegerField())
    counts = ArrayField(models.IntegerField())
    strengths = ArrayField(Float4Field())
