"""The small real pass that dashboards are tested with."""

from tests.inference.dashboards.conftest import result, setting  # noqa: F401
