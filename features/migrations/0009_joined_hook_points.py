"""Names of hook points as long as dictionaries that join several of them need."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("features", "0007_passes_and_corpora")]

    operations = [
        migrations.AlterField("dictionary", "hook_point", models.TextField()),
        migrations.AlterField("dictionary", "hook_point_out", models.TextField()),
    ]
