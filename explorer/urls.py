"""The addresses of Facet. Fixed ones come first; `/{model}/{source}/{index}` takes what is left."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path
from django.views.generic import RedirectView

from explorer.sign_in import SignInForm
from explorer.views import (
    add,
    annotations,
    api_page,
    documents,
    features,
    home,
    lists,
    models,
    patterns,
    runs,
    search,
    sources,
    transfers,
)

handler400 = "explorer.errors.bad_request"
handler403 = "explorer.errors.forbidden"
handler404 = "explorer.errors.not_found"
handler500 = "explorer.errors.failed"

SIGN_IN = LoginView.as_view(
    template_name="login.html", authentication_form=SignInForm, redirect_authenticated_user=True
)
ADDRESS = "<slug:model>/<slug:source>/<int:index>"

urlpatterns = [
    path("", home.home, name="home"),
    path("runs/tray", home.tray, name="tray"),
    path("", include("explorer.views.live_urls")),
    path("api", api_page.api_page, name="api"),
    path("search", search.search, name="search"),
    path("add", RedirectView.as_view(pattern_name="add_dictionary", query_string=True), name="add"),
    path("add/dictionary", add.dictionary, name="add_dictionary"),
    path("add/model", add.model, name="add_model"),
    path("add/corpus", add.corpus, name="add_corpus"),
    path("add/dashboards", transfers.import_features, name="add_dashboards"),
    path("add/download", add.download, name="add_download"),
    path("lists", lists.Lists.as_view(), name="lists"),
    path("lists/<int:list_id>", lists.OneList.as_view(), name="list"),
    path("lists/<int:list_id>/file", transfers.list_file, name="list_file"),
    path("corpora/<slug:corpus>", documents.corpus, name="corpus"),
    path("corpora/<slug:corpus>/<int:ordinal>", documents.document, name="document"),
    path("accounts/login", SIGN_IN, name="login"),
    path("accounts/logout", LogoutView.as_view(), name="logout"),
    path("patterns", RedirectView.as_view(pattern_name="patterns")),
    path("patterns/", patterns.index, name="patterns"),
    path("patterns/<slug:name>", patterns.page, name="pattern_page"),
    path("<slug:model>", models.model, name="model"),
    path("<slug:model>/<slug:source>", sources.source, name="source"),
    path("<slug:model>/<slug:source>/export", transfers.export_source, name="export_source"),
    path("<slug:model>/<slug:source>/rail", features.feature_rail, name="feature_rail"),
    path("<slug:model>/<slug:source>/evaluate", runs.evaluation_create, name="evaluation_create"),
    path("<slug:model>/<slug:source>/token", sources.source_token, name="source_token"),
    path("<slug:model>/<slug:source>/random", features.random_feature, name="random_feature"),
    path(ADDRESS, features.feature, name="feature"),
    path(f"{ADDRESS}/examples", features.feature_examples, name="feature_examples"),
    path(f"{ADDRESS}/file", transfers.feature_file, name="feature_file"),
    path(f"{ADDRESS}/test", features.feature_test, name="feature_test"),
    path(f"{ADDRESS}/sources", features.feature_sources, name="feature_sources"),
    path(f"{ADDRESS}/label", annotations.label, name="label"),
    path(f"{ADDRESS}/explanations/<int:explanation>/vote", annotations.vote, name="vote"),
    path(f"{ADDRESS}/explanations/<int:explanation>/delete", annotations.label_delete, name="label_delete"),
    path(f"{ADDRESS}/comment", annotations.comment, name="comment"),
    path(f"{ADDRESS}/comments/<int:comment>/delete", annotations.comment_delete, name="comment_delete"),
    path(f"{ADDRESS}/lists", annotations.feature_lists, name="feature_lists"),
]
