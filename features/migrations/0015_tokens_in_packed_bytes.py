"""Token ids move into the packed bytes too: lists read them there, and searches read postings."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("features", "0004_runs")]

    operations = [
        migrations.RemoveField("feature", "peak_token_ids"),
        migrations.RemoveField("feature", "promoted_ids"),
    ]
