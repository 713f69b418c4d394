"""What no SQL reads any more moves into the packed bytes: the contexts of top examples, what is paired with tokens."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("features", "0013_context_postings")]

    operations = [
        migrations.RemoveField("example", "top_contexts"),
        migrations.RemoveField("feature", "peak_token_counts"),
        migrations.RemoveField("feature", "peak_token_shares"),
        migrations.RemoveField("feature", "promoted_values"),
    ]
