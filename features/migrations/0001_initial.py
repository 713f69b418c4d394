"""Models, dictionaries and corpora; and how text becomes words."""

import django.db.models.deletion
from django.db import migrations, models

from features.migrations._sql import DROP_FUNCTIONS, FUNCTIONS


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.RunSQL(FUNCTIONS, DROP_FUNCTIONS),
        migrations.CreateModel(
            name="LanguageModel",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(max_length=80, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("description", models.TextField(blank=True, default="")),
                ("path", models.TextField()),
                ("revision", models.CharField(blank=True, default="", max_length=120)),
                ("sha256", models.CharField(blank=True, default="", max_length=64)),
                ("family", models.CharField(max_length=40)),
                ("n_layers", models.PositiveIntegerField()),
                ("n_heads", models.PositiveIntegerField()),
                ("d_model", models.PositiveIntegerField()),
                ("d_head", models.PositiveIntegerField()),
                ("d_mlp", models.PositiveIntegerField()),
                ("d_vocab", models.PositiveIntegerField()),
                ("context_size", models.PositiveIntegerField()),
                ("config", models.JSONField(blank=True, default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["slug"],
            },
        ),
        migrations.CreateModel(
            name="VocabularyToken",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "model_id", "token_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("token_id", models.IntegerField()),
                ("text", models.TextField()),
                ("folded", models.TextField()),
                (
                    "model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tokens",
                        to="features.languagemodel",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Release",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(max_length=80, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("description", models.TextField(blank=True, default="")),
                ("url", models.URLField(blank=True, default="")),
                ("licence", models.CharField(blank=True, default="", max_length=80)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["slug"],
            },
        ),
        migrations.CreateModel(
            name="Corpus",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(max_length=80, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("description", models.TextField(blank=True, default="")),
                ("origin", models.JSONField(blank=True, default=dict)),
                ("skipped", models.JSONField(blank=True, default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "corpora",
                "ordering": ["slug"],
            },
        ),
        migrations.CreateModel(
            name="Document",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("ordinal", models.PositiveIntegerField()),
                ("name", models.TextField()),
                ("path", models.TextField()),
                ("split", models.CharField(choices=[("train", "Train"), ("test", "Test")], max_length=8)),
                ("sha256", models.CharField(max_length=64)),
                ("n_bytes", models.PositiveBigIntegerField()),
                ("field", models.CharField(blank=True, default="", max_length=80)),
                ("start", models.PositiveBigIntegerField(blank=True, null=True)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                (
                    "corpus",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="documents",
                        to="features.corpus",
                    ),
                ),
            ],
            options={
                "ordering": ["corpus", "ordinal"],
                "constraints": [models.UniqueConstraint(fields=("corpus", "ordinal"), name="one_document_per_ordinal")],
            },
        ),
        migrations.CreateModel(
            name="Tokenization",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("context_size", models.PositiveIntegerField()),
                ("n_contexts", models.PositiveIntegerField()),
                ("n_tokens", models.PositiveBigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("has_bos", models.BooleanField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "corpus",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="tokenizations", to="features.corpus"
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tokenizations",
                        to="features.languagemodel",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Dictionary",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("source", models.SlugField(max_length=80)),
                ("layer", models.PositiveIntegerField()),
                ("hook_point", models.TextField()),
                ("hook_point_out", models.TextField()),
                ("architecture", models.CharField(max_length=40)),
                ("n_features", models.PositiveIntegerField()),
                ("d_in", models.PositiveIntegerField()),
                ("d_out", models.PositiveIntegerField()),
                ("k", models.PositiveIntegerField(blank=True, null=True)),
                ("path", models.TextField()),
                ("sha256", models.CharField(max_length=64)),
                ("format", models.CharField(max_length=40)),
                ("config", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("built_at", models.DateTimeField(blank=True, null=True)),
                ("stats", models.JSONField(blank=True, default=dict)),
            ],
            options={
                "verbose_name_plural": "dictionaries",
                "ordering": ["model", "layer", "source"],
            },
        ),
        migrations.AddField(
            model_name="dictionary",
            name="model",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="dictionaries", to="features.languagemodel"
            ),
        ),
        migrations.AddField(
            model_name="dictionary",
            name="release",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="dictionaries",
                to="features.release",
            ),
        ),
        migrations.AddField(
            model_name="dictionary",
            name="tokenization",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="dictionaries",
                to="features.tokenization",
            ),
        ),
        migrations.AddIndex(
            model_name="vocabularytoken",
            index=models.Index(
                fields=["model", "folded"], name="token_folded", opclasses=["int8_ops", "text_pattern_ops"]
            ),
        ),
        migrations.AddConstraint(
            model_name="tokenization",
            constraint=models.UniqueConstraint(
                fields=("corpus", "model", "sha256"), name="one_tokenization_per_digest"
            ),
        ),
        migrations.AddConstraint(
            model_name="dictionary",
            constraint=models.UniqueConstraint(fields=("model", "source"), name="one_source_per_model"),
        ),
    ]
