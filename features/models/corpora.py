"""Corpora, their documents, and the contexts that a tokenizer cuts them into."""

from django.db import models

from features.models.language_models import LanguageModel


class Corpus(models.Model):
    """A named, ordered set of documents.

    `origin` says what they were made of, JSON-ready. `skipped` counts, by reason, what was there and is no document;
    its `first` names some.
    """

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    origin = models.JSONField(default=dict, blank=True)
    skipped = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "corpora"
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Document(models.Model):
    """One text of a corpus, with the side of the train and test split that all its contexts share.

    It is a file; or, where `start` is given, `field` of the line of JSON in the `n_bytes` there. `metadata` is what
    its source says of it beside the text.
    """

    class Split(models.TextChoices):
        TRAIN = "train"
        TEST = "test"

    corpus = models.ForeignKey(Corpus, on_delete=models.CASCADE, related_name="documents", db_index=False)
    ordinal = models.PositiveIntegerField()
    name = models.TextField()
    path = models.TextField()
    split = models.CharField(max_length=8, choices=Split.choices)
    sha256 = models.CharField(max_length=64)
    n_bytes = models.PositiveBigIntegerField()
    start = models.PositiveBigIntegerField(null=True, blank=True)
    field = models.CharField(max_length=80, blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["corpus", "ordinal"]
        constraints = [models.UniqueConstraint(fields=["corpus", "ordinal"], name="one_document_per_ordinal")]


class Tokenization(models.Model):
    """The contexts that one model's tokenizer makes of a corpus; `sha256` digests them.

    `n_tokens` counts tokens of text, without BOS.

    Two builds whose contexts are the same share one tokenization, so contexts are stored once however many
    dictionaries, of this or a later build, use them.
    """

    id = models.AutoField(primary_key=True)  # four bytes: every context carries it
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="tokenizations")
    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="tokenizations")
    context_size = models.PositiveIntegerField()
    n_contexts = models.PositiveIntegerField()
    n_tokens = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    has_bos = models.BooleanField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["corpus", "model", "sha256"], name="one_tokenization_per_digest"),
        ]


class Context(models.Model):
    """A window of tokens of one document, in the partition of its tokenization.

    `token_ids` and `spans` are packed by `inference.packing`; spans are starts and ends in characters of
    `text`; `line` is the line of the document, from 1, where the text begins. `duplicate_of` is the ordinal of the
    first context with the same text up to spacing and case, or its own; `n_similar` counts its later duplicates.
    """

    pk = models.CompositePrimaryKey("tokenization_id", "ordinal")
    tokenization = models.ForeignKey(
        Tokenization, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="contexts"
    )
    ordinal = models.IntegerField()
    document = models.IntegerField(help_text="ordinal of the document in the corpus")
    line = models.IntegerField()
    duplicate_of = models.IntegerField()
    n_similar = models.IntegerField()
    is_test = models.BooleanField()
    text = models.TextField()
    token_ids = models.BinaryField()
    spans = models.BinaryField()
