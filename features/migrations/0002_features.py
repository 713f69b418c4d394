"""The partitioned tables; features.partitions makes and swaps their partitions."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import features.models.features
import features.operations
from features.migrations._sql import INDEXES


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0001_initial"),
    ]

    operations = [
        features.operations.CreatePartitionedModel(
            name="Example",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id",
                        "index",
                        "group",
                        "rank",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="examples",
                        to="features.dictionary",
                    ),
                ),
                ("index", models.IntegerField()),
                ("fold", models.BigIntegerField()),
                ("context", models.IntegerField(help_text="ordinal of the context in the dictionary's tokenization")),
                ("peak_value", features.models.features.Float4Field()),
                ("group", models.SmallIntegerField()),
                ("rank", models.SmallIntegerField()),
                ("peak_position", models.SmallIntegerField()),
                ("is_test", models.BooleanField()),
                ("positions", models.BinaryField()),
                ("values", models.BinaryField()),
            ],
        ),
        features.operations.CreatePartitionedModel(
            name="Feature",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="features",
                        to="features.dictionary",
                    ),
                ),
                ("index", models.IntegerField()),
                ("firing_count", models.BigIntegerField()),
                ("total", models.FloatField()),
                ("total_2", models.FloatField()),
                ("total_3", models.FloatField()),
                ("total_4", models.FloatField()),
                ("context_count", models.IntegerField()),
                ("maximum", features.models.features.Float4Field()),
                ("token_entropy", features.models.features.Float4Field()),
                ("n_tokens_seen", models.IntegerField()),
                ("logit_low", features.models.features.Float4Field()),
                ("logit_high", features.models.features.Float4Field()),
                ("logit_deviation", features.models.features.Float4Field()),
                ("logit_skewness", features.models.features.Float4Field()),
                ("logit_kurtosis", features.models.features.Float4Field()),
                (
                    "band_counts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                ("histogram", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
                (
                    "logit_histogram",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_counts",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_shares",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "promoted_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "promoted_values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "suppressed_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "suppressed_values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "co_firing_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "co_firing_jaccards",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "decoder_neighbour_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "decoder_neighbour_cosines",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
            ],
        ),
        features.operations.CreatePartitionedModel(
            name="Context",
            partition_by="tokenization_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tokenization_id", "ordinal", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "tokenization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="contexts",
                        to="features.tokenization",
                    ),
                ),
                ("ordinal", models.IntegerField()),
                ("document", models.IntegerField(help_text="ordinal of the document in the corpus")),
                ("line", models.IntegerField()),
                ("duplicate_of", models.IntegerField()),
                ("n_similar", models.IntegerField()),
                ("is_test", models.BooleanField()),
                ("text", models.TextField()),
                ("token_ids", models.BinaryField()),
                ("spans", models.BinaryField()),
            ],
        ),
        migrations.RunSQL(INDEXES, migrations.RunSQL.noop),
    ]
