"""One table that finds features by token over all dictionaries, without an index in every partition."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0009_joined_hook_points"),
    ]

    operations = [
        migrations.CreateModel(
            name="TokenPosting",
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
                        related_name="token_postings",
                        to="features.dictionary",
                    ),
                ),
                ("packed", models.BinaryField()),
            ],
        ),
    ]
