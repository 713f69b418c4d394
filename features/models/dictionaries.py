"""Dictionaries (sets of features at a hook point) and the releases that publish them."""

from django.db import models

from features.models.corpora import Tokenization
from features.models.language_models import LanguageModel
from features.querysets import DictionaryQuerySet


class Release(models.Model):
    """Dictionaries published together."""

    slug = models.SlugField(max_length=80, unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    url = models.URLField(blank=True, default="")
    licence = models.CharField(max_length=80, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Dictionary(models.Model):
    """A set of features that reads `hook_point` and writes `hook_point_out`.

    `source` is its short id inside the model, `{layer}-{set}`. `stats` holds the figures of the current build
    (`n_tokens`, `n_contexts`, `l0_mean`, `explained_variance`, `dead`, `dense`, edges of histograms); it changes in the
    transaction that swaps the partitions of features and examples, so it always describes the rows that readers see.
    Its `fidelity` alone is no part of a build: services.evaluations stores it, and builds keep it.
    """

    id = models.AutoField(primary_key=True)  # four bytes: every feature and example carries it
    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="dictionaries")
    release = models.ForeignKey(Release, on_delete=models.SET_NULL, null=True, blank=True, related_name="dictionaries")
    source = models.SlugField(max_length=80)
    layer = models.PositiveIntegerField()
    hook_point = models.TextField()
    hook_point_out = models.TextField()
    architecture = models.CharField(max_length=40)
    n_features = models.PositiveIntegerField()
    d_in = models.PositiveIntegerField()
    d_out = models.PositiveIntegerField()
    k = models.PositiveIntegerField(null=True, blank=True)
    path = models.TextField()
    sha256 = models.CharField(max_length=64)
    format = models.CharField(max_length=40)
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    tokenization = models.ForeignKey(
        Tokenization, on_delete=models.PROTECT, null=True, blank=True, related_name="dictionaries"
    )
    built_at = models.DateTimeField(null=True, blank=True)
    stats = models.JSONField(default=dict, blank=True)

    objects = DictionaryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "dictionaries"
        ordering = ["model", "layer", "source"]
        constraints = [models.UniqueConstraint(fields=["model", "source"], name="one_source_per_model")]

    def __str__(self) -> str:
        return self.source
