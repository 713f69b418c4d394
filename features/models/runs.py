"""Long jobs, their progress and their log."""

from django.conf import settings
from django.db import models

from features.models.corpora import Corpus
from features.models.dictionaries import Dictionary


class Run(models.Model):
    """A long job that can be watched, cancelled and resumed.

    `phases` names its steps in order; `done` and `total` count `unit`s of the current phase and `rate` is in units per
    second. A worker renews `heartbeat_at` while it works: a running run whose heartbeat is old has lost its worker.
    `result` is what came of it: `links` are addresses of pages that show it.
    """

    class Kind(models.TextChoices):
        BUILD = "build"
        EVALUATION = "evaluation"
        ADDITION = "addition"
        IMPORT = "import"
        EXPORT = "export"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING)

    kind = models.CharField(max_length=20, choices=Kind.choices)
    title = models.CharField(max_length=300)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    dictionaries = models.ManyToManyField(Dictionary, related_name="runs", blank=True)
    corpus = models.ForeignKey(Corpus, on_delete=models.SET_NULL, null=True, blank=True, related_name="runs")
    params = models.JSONField(default=dict)
    result = models.JSONField(default=dict, blank=True)
    phases = models.JSONField(default=list)
    phase = models.CharField(max_length=60, blank=True, default="")
    unit = models.CharField(max_length=30, blank=True, default="")
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    rate = models.FloatField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    error = models.TextField(blank=True, default="")
    remedy = models.TextField(blank=True, default="")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state"], name="run_state")]

    def __str__(self) -> str:
        return self.title


class RunLine(models.Model):
    """A line of a run's log."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(auto_now_add=True)
    text = models.TextField()

    class Meta:
        ordering = ["id"]


class Shard(models.Model):
    """A part of a build, which one worker makes.

    `failures` are what workers ran into, oldest first: `{"worker", "error", "at"}`; `done` of `n_tokens` are encoded.
    Whether a worker is at it now, its lock says (features.holds); `worker` is who was at it last.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="shards", db_index=False)
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    n_tokens = models.PositiveIntegerField()
    done = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=200, blank=True, default="")
    failures = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_shard_per_number")]
