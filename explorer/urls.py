"""The addresses of Facet."""

urlpatterns = []
