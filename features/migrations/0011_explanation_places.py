"""The index by which search reads explanations in the order in which it shows them."""

from django.db import migrations

from features.migrations._places_sql import DROP_PLACES, PLACES


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0010_postings"),
    ]

    operations = [
        migrations.RunSQL(PLACES, DROP_PLACES),
    ]
