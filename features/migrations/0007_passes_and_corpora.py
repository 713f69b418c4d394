"""What a pass measures besides, what corpora are made of, and the shards of a build."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0005_run_kinds"),
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
