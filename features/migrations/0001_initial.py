"""The whole schema: see features.models, and features.partitions for the partitioned tables."""

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import features.models.features
import features.operations
from features.migrations._sql import DROP_FUNCTIONS, FUNCTIONS, INDEXES


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(FUNCTIONS, DROP_FUNCTIONS),
        migrations.CreateModel(
            name="Corpus",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField(max_length=80, unique=True)),
                ("name", models.CharField(max_length=200)),
                ("description", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name_plural": "corpora",
                "ordering": ["slug"],
            },
        ),
        migrations.CreateModel(
            name="Dictionary",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("source", models.SlugField(max_length=80)),
                ("layer", models.PositiveIntegerField()),
                ("hook_point", models.CharField(max_length=120)),
                ("hook_point_out", models.CharField(max_length=120)),
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
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["slug"],
            },
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
        features.operations.CreatePartitionedModel(
            name="Example",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id",
                        "index",
                        "group",
                        "rank",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="examples",
                        to="features.dictionary",
                    ),
                ),
                ("index", models.IntegerField()),
                ("fold", models.BigIntegerField()),
                ("context", models.IntegerField(help_text="ordinal of the context in the dictionary's tokenization")),
                ("peak_value", features.models.features.Float4Field()),
                ("group", models.SmallIntegerField()),
                ("rank", models.SmallIntegerField()),
                ("peak_position", models.SmallIntegerField()),
                ("is_test", models.BooleanField()),
                ("positions", models.BinaryField()),
                ("values", models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name="Explanation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("index", models.IntegerField()),
                ("text", models.TextField()),
                ("method", models.CharField(blank=True, default="", max_length=80)),
                ("evidence", models.JSONField(blank=True, default=dict)),
                ("votes", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "words",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Func(models.F("text"), function="facet_prose_vector"),
                        output_field=django.contrib.postgres.search.SearchVectorField(),
                    ),
                ),
                (
                    "author",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="explanations",
                        to="features.dictionary",
                    ),
                ),
            ],
        ),
        features.operations.CreatePartitionedModel(
            name="Feature",
            partition_by="dictionary_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "dictionary_id", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="features",
                        to="features.dictionary",
                    ),
                ),
                ("index", models.IntegerField()),
                ("firing_count", models.BigIntegerField()),
                ("total", models.FloatField()),
                ("total_2", models.FloatField()),
                ("total_3", models.FloatField()),
                ("total_4", models.FloatField()),
                ("context_count", models.IntegerField()),
                ("maximum", features.models.features.Float4Field()),
                ("token_entropy", features.models.features.Float4Field()),
                ("n_tokens_seen", models.IntegerField()),
                ("logit_low", features.models.features.Float4Field()),
                ("logit_high", features.models.features.Float4Field()),
                ("logit_deviation", features.models.features.Float4Field()),
                ("logit_skewness", features.models.features.Float4Field()),
                ("logit_kurtosis", features.models.features.Float4Field()),
                (
                    "band_counts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                ("histogram", django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None)),
                (
                    "logit_histogram",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_counts",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "peak_token_shares",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "promoted_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "promoted_values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "suppressed_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "suppressed_values",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "co_firing_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "co_firing_jaccards",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
                (
                    "decoder_neighbour_ids",
                    django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), size=None),
                ),
                (
                    "decoder_neighbour_cosines",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=features.models.features.Float4Field(), size=None
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="FeatureList",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("description", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="feature_lists",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-updated_at", "-id"],
            },
        ),
        migrations.AddField(
            model_name="dictionary",
            name="model",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="dictionaries", to="features.languagemodel"
            ),
        ),
        migrations.CreateModel(
            name="ListMember",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("index", models.IntegerField()),
                ("note", models.TextField(blank=True, default="")),
                ("added_at", models.DateTimeField(auto_now_add=True)),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="list_members",
                        to="features.dictionary",
                    ),
                ),
                (
                    "list",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="features.featurelist",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
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
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("build", "Build")], max_length=20)),
                ("title", models.CharField(max_length=300)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=12,
                    ),
                ),
                ("params", models.JSONField(default=dict)),
                ("phases", models.JSONField(default=list)),
                ("phase", models.CharField(blank=True, default="", max_length=60)),
                ("unit", models.CharField(blank=True, default="", max_length=30)),
                ("done", models.BigIntegerField(default=0)),
                ("total", models.BigIntegerField(default=0)),
                ("rate", models.FloatField(blank=True, null=True)),
                ("cancel_requested", models.BooleanField(default=False)),
                ("heartbeat_at", models.DateTimeField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("error", models.TextField(blank=True, default="")),
                ("remedy", models.TextField(blank=True, default="")),
                (
                    "corpus",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="runs",
                        to="features.corpus",
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("dictionaries", models.ManyToManyField(related_name="runs", to="features.dictionary")),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="RunLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(auto_now_add=True)),
                ("text", models.TextField()),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="lines", to="features.run"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
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
        features.operations.CreatePartitionedModel(
            name="Context",
            partition_by="tokenization_id",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tokenization_id", "ordinal", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "tokenization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="contexts",
                        to="features.tokenization",
                    ),
                ),
                ("ordinal", models.IntegerField()),
                ("document", models.IntegerField(help_text="ordinal of the document in the corpus")),
                ("line", models.IntegerField()),
                ("duplicate_of", models.IntegerField()),
                ("n_similar", models.IntegerField()),
                ("is_test", models.BooleanField()),
                ("text", models.TextField()),
                ("token_ids", models.BinaryField()),
                ("spans", models.BinaryField()),
            ],
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
            name="Vote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("value", models.SmallIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "explanation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="votes_cast",
                        to="features.explanation",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="votes_cast",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Comment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("index", models.IntegerField()),
                ("text", models.TextField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "author",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="comments",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "dictionary",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="comments",
                        to="features.dictionary",
                    ),
                ),
            ],
            options={
                "ordering": ["created_at", "id"],
                "indexes": [models.Index(fields=["dictionary", "index"], name="comment_address")],
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
        migrations.AddIndex(
            model_name="explanation",
            index=models.Index(fields=["dictionary", "index"], name="explanation_address"),
        ),
        migrations.AddIndex(
            model_name="explanation",
            index=django.contrib.postgres.indexes.GinIndex(fields=["words"], name="explanation_words"),
        ),
        migrations.AddConstraint(
            model_name="explanation",
            constraint=models.UniqueConstraint(
                condition=models.Q(("author", None)),
                fields=("dictionary", "index", "method"),
                name="one_explanation_per_method",
            ),
        ),
        migrations.AddConstraint(
            model_name="featurelist",
            constraint=models.UniqueConstraint(fields=("owner", "name"), name="one_list_per_name"),
        ),
        migrations.AddIndex(
            model_name="listmember",
            index=models.Index(fields=["dictionary", "index"], name="member_address"),
        ),
        migrations.AddConstraint(
            model_name="listmember",
            constraint=models.UniqueConstraint(fields=("list", "dictionary", "index"), name="one_member_per_feature"),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(fields=["state"], name="run_state"),
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
        migrations.AddIndex(
            model_name="vocabularytoken",
            index=models.Index(
                fields=["model", "folded"], name="token_folded", opclasses=["int8_ops", "text_pattern_ops"]
            ),
        ),
        migrations.AddConstraint(
            model_name="vote",
            constraint=models.UniqueConstraint(fields=("explanation", "user"), name="one_vote_per_user"),
        ),
        migrations.AddConstraint(
            model_name="vote",
            constraint=models.CheckConstraint(condition=models.Q(("value__in", [-1, 1])), name="vote_is_up_or_down"),
        ),
        migrations.RunSQL(INDEXES, migrations.RunSQL.noop),
    ]
