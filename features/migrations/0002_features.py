"""The partitioned tables, and the postings that find features over all of them; features.partitions fills both."""

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
                        "dictionary_id", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("index", models.IntegerField()),
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
                ("packed", models.BinaryField()),
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
                ("firing_count", models.BigIntegerField()),
                ("index", models.IntegerField()),
                ("maximum", features.models.features.Float4Field()),
                ("token_entropy", features.models.features.Float4Field()),
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
                ("packed", models.BinaryField()),
            ],
        ),
        features.operations.CreatePartitionedModel(
            name="TokenFeature",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id", "block", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("block", models.IntegerField()),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="token_features",
                        to="features.dictionary",
                    ),
                ),
                ("packed", models.BinaryField()),
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
        migrations.CreateModel(
            name="Posting",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "kind", "block", "dictionary_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("block", models.IntegerField()),
                ("kind", models.SmallIntegerField()),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="postings",
                        to="features.dictionary",
                    ),
                ),
                ("packed", models.BinaryField()),
            ],
        ),
        migrations.RunSQL(INDEXES, migrations.RunSQL.noop),
    ]
