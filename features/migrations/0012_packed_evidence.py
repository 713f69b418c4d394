"""What explanations rest on, in packed bytes."""

from django.db import migrations

import features.models.annotations


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0011_explanation_places"),
    ]

    operations = [
        migrations.RemoveField(model_name="explanation", name="evidence"),
        migrations.AddField(
            model_name="explanation",
            name="evidence",
            field=features.models.annotations.PackedJSONField(blank=True, default=dict),
        ),
    ]
