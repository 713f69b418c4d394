"""Language models and the texts of their tokens."""

from django.db import models


class LanguageModel(models.Model):
    """A model that the engine can load from `path`, a local folder or a hub id with a pinned revision.

    `config` holds what its files say beyond the columns: `dtype` of the weights, `bos` (the token's text), `has_chat`
    (whether the tokenizer has a chat template), `hub_id` and `causal`.
    """

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    path = models.TextField()
    revision = models.CharField(max_length=120, blank=True, default="")
    sha256 = models.CharField(max_length=64, blank=True, default="")
    family = models.CharField(max_length=40)
    n_layers = models.PositiveIntegerField()
    n_heads = models.PositiveIntegerField()
    d_model = models.PositiveIntegerField()
    d_head = models.PositiveIntegerField()
    d_mlp = models.PositiveIntegerField()
    d_vocab = models.PositiveIntegerField()
    context_size = models.PositiveIntegerField()
    config = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class VocabularyToken(models.Model):
    """The text of one token, as pages show it; `folded` is stripped and case-folded, for search."""

    pk = models.CompositePrimaryKey("model_id", "token_id")
    model = models.ForeignKey(LanguageModel, on_delete=models.CASCADE, related_name="tokens", db_index=False)
    token_id = models.IntegerField()
    text = models.TextField()
    folded = models.TextField()

    class Meta:
        indexes = [
            models.Index(fields=["model", "folded"], name="token_folded", opclasses=["int8_ops", "text_pattern_ops"])
        ]
