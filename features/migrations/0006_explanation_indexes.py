"""Indexes by which search finds what begins with a phrase, and what people say, among many explanations."""

from django.db import migrations

INDEXES = """
CREATE INDEX explanation_said ON features_explanation (lower(btrim(facet_words(text))) text_pattern_ops);
CREATE INDEX explanation_by_people ON features_explanation (dictionary_id, id) WHERE author_id IS NOT NULL;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("features", "0005_run_kinds"),
    ]

    operations = [
        migrations.RunSQL(INDEXES, "DROP INDEX explanation_said, explanation_by_people"),
    ]
