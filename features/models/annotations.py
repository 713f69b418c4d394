"""What people and methods say about features.

These rows carry the address `(dictionary, index)` themselves: Django's composite keys cannot be referenced, and what is
written about a feature outlives a rebuild of its dictionary.
"""

import json
from typing import Any

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import F, Func, Q

from features import packed_json
from features.models.dictionaries import Dictionary
from features.querysets import ExplanationQuerySet


class PackedJSONField(models.BinaryField):
    """An object of JSON in packed bytes (features.packed_json): SQL cannot look inside."""

    def from_db_value(self, value: bytes | None, *_: object) -> dict[str, Any] | None:
        return None if value is None else packed_json.unpack(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        packed = packed_json.pack(value) if isinstance(value, dict) else value
        return super().get_db_prep_value(packed, connection, prepared)

    def to_python(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(self.value_from_object(obj))


class Explanation(models.Model):
    """A statement of what a feature means, by a method (then `author` is null) or by a person: then it is a label.

    `evidence` is what a method rests it on. `votes` is the sum of its votes, kept by services.votes.
    """

    dictionary = models.ForeignKey(Dictionary, on_delete=models.CASCADE, related_name="explanations", db_index=False)
    index = models.IntegerField()
    text = models.TextField()
    method = models.CharField(max_length=80, blank=True, default="")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    evidence = PackedJSONField(default=dict, blank=True)
    votes = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    words = models.GeneratedField(
        expression=Func(F("text"), function="facet_prose_vector"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = ExplanationQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["dictionary", "index"], name="explanation_address"),
            GinIndex(fields=["words"], name="explanation_words"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["dictionary", "index", "method"], condition=Q(author=None), name="one_explanation_per_method"
            ),
        ]


class Vote(models.Model):
    """A person's opinion of an explanation: 1 or -1."""

    explanation = models.ForeignKey(Explanation, on_delete=models.CASCADE, related_name="votes_cast", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="votes_cast")
    value = models.SmallIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["explanation", "user"], name="one_vote_per_user"),
            models.CheckConstraint(condition=Q(value__in=[-1, 1]), name="vote_is_up_or_down"),
        ]


class Comment(models.Model):
    """A remark of a person on a feature."""

    dictionary = models.ForeignKey(Dictionary, on_delete=models.CASCADE, related_name="comments", db_index=False)
    index = models.IntegerField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="comments")
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["dictionary", "index"], name="comment_address")]


class FeatureList(models.Model):
    """A named list of features, of any models and dictionaries, owned by a person and readable by all."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="feature_lists")
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-updated_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="one_list_per_name")]

    def __str__(self) -> str:
        return self.name


class ListMember(models.Model):
    """A feature on a list, in order of arrival."""

    list = models.ForeignKey(FeatureList, on_delete=models.CASCADE, related_name="members", db_index=False)
    dictionary = models.ForeignKey(Dictionary, on_delete=models.CASCADE, related_name="list_members", db_index=False)
    index = models.IntegerField()
    note = models.TextField(blank=True, default="")
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["dictionary", "index"], name="member_address")]
        constraints = [models.UniqueConstraint(fields=["list", "dictionary", "index"], name="one_member_per_feature")]
