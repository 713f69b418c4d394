"""The Django app that owns the data: models, querysets, selectors, services."""

from django.apps import AppConfig


class FeaturesConfig(AppConfig):
    name = "features"
    verbose_name = "Features"
    default_auto_field = "django.db.models.BigAutoField"
