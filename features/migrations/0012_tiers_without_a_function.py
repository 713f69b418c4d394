"""Drop the function by which search went through the tiers of explanations: one statement does it."""

from django.db import migrations

# Only where 0011 was applied before it stopped to make the function.
DROP = "DROP FUNCTION IF EXISTS facet_best_explanations(text[], integer[], integer, integer, integer)"


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0011_explanation_places"),
    ]

    operations = [
        migrations.RunSQL(DROP, migrations.RunSQL.noop),
    ]
