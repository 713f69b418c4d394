"""Postings of contexts, in place of an index in every partition: which features have a context among their top ones."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("features", "0012_packed_evidence")]

    operations = [
        migrations.RenameModel("TokenPosting", "Posting"),
        migrations.AlterField(
            "posting",
            "dictionary",
            models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="postings",
                to="features.dictionary",
            ),
        ),
        migrations.RunSQL(
            "DROP INDEX example_contexts",
            "CREATE INDEX example_contexts ON features_example USING gin (top_contexts)",
        ),
    ]
