"""What a pass measures besides, what corpora are made of, and the shards of a build."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import features.models.features
import features.operations


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0006_explanation_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="corpus",
            name="origin",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="corpus",
            name="skipped",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="document",
            name="field",
            field=models.CharField(blank=True, default="", max_length=80),
        ),
        migrations.AddField(
            model_name="document",
            name="metadata",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="document",
            name="start",
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="feature",
            name="encoder_neighbour_cosines",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=features.models.features.Float4Field(), default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="feature",
            name="encoder_neighbour_ids",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None),
        ),
        migrations.AddField(
            model_name="feature",
            name="next_token_counts",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None),
        ),
        migrations.AddField(
            model_name="feature",
            name="next_token_ids",
            field=django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None),
        ),
        features.operations.CreatePartitionedModel(
            name="TokenFeature",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id", "token_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("token_id", models.IntegerField()),
                ("occurrences", models.BigIntegerField()),
                ("feature_ids", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
                ("counts", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
                (
                    "strengths",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
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
            ],
        ),
        migrations.CreateModel(
            name="Shard",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("running", "Running"), ("done", "Done")],
                        default="waiting",
                        max_length=8,
                    ),
                ),
                ("n_tokens", models.PositiveIntegerField()),
                ("done", models.PositiveIntegerField(default=0)),
                ("worker", models.CharField(blank=True, default="", max_length=200)),
                ("failures", models.JSONField(blank=True, default=list)),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="shards",
                        to="features.run",
                    ),
                ),
            ],
            options={
                "ordering": ["run", "number"],
                "constraints": [models.UniqueConstraint(fields=("run", "number"), name="one_shard_per_number")],
            },
        ),
    ]
