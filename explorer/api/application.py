"""The API as one object, which explorer.views.live_urls puts under /api/v1/."""

from ninja import NinjaAPI

from explorer.api import account, additions, annotations, catalogue, errors, lists, live, runs, transfers

api = NinjaAPI(
    title="Facet",
    version="1",
    description="Features of sparse dictionaries: what they respond to, live activations, steering, annotations, runs.",
    urls_namespace="api-1",
    docs_url=None,  # explorer.views.api_page shows the document without scripts of another host
)
errors.add_handlers(api)
for module in (catalogue, additions, live, annotations, lists, runs, transfers, account):
    api.add_router("", module.router)
