"""The Celery application: queue `engine` answers live requests, queue `batch` runs long jobs.

Web code sends tasks by name through `app.send_task` and never imports them; only workers import `inference.tasks`.
"""

import os

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "explorer.settings")
app = Celery("facet", include=["inference.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def configure_logging(**_kwargs: object) -> None:
    """Keep the logging that Django's settings configure: Celery would otherwise install its own handlers."""
    import logging.config

    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)
