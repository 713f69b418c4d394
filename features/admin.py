"""The admin's view of what is edited by hand; models with composite keys are not for the admin."""

from django.contrib import admin

from features.models import Corpus, Dictionary, FeatureList, LanguageModel, Release, Run


@admin.register(LanguageModel, Release, Corpus)
class NamedAdmin(admin.ModelAdmin):
    list_display = ("slug", "name", "created_at")
    search_fields = ("slug", "name")


@admin.register(Dictionary)
class DictionaryAdmin(admin.ModelAdmin):
    list_display = ("source", "model", "architecture", "n_features", "built_at")
    list_filter = ("model", "architecture")
    search_fields = ("source",)


@admin.register(FeatureList)
class FeatureListAdmin(admin.ModelAdmin):
    list_display = ("name", "owner", "updated_at")
    search_fields = ("name",)


@admin.register(Run)
class RunAdmin(admin.ModelAdmin):
    list_display = ("title", "state", "phase", "created_at")
    list_filter = ("state", "kind")
