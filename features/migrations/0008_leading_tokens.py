"""The index by which search finds the features whose first peak token is a given one, the largest shares first."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0007_passes_and_corpora"),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX feature_leading_token ON features_feature ((peak_token_ids[1]), (peak_token_shares[1]) DESC)"
            " WITH (fillfactor = 100)",
            "DROP INDEX feature_leading_token",
        ),
    ]
