"""Real parts for browser tests: a built site, uvicorn, Celery workers, Chromium; and pages that are watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from tests.processes import Workers
from tests.site import Site, built_site

PATIENCE_MS = 20_000  # for what a page does by itself: the machine may be busy
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, committed, so that the server and the workers see it. Tests are marked `django_db`."""
    with django_db_blocker.unblock(), built_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, object]) -> dict[str, object]:
    return {**browser_context_args, "viewport": {"width": 1440, "height": 900}, "locale": "en-GB"}


@dataclass  # not slotted: Playwright keeps a note on the handler's object
class Watch:
    """What went wrong on a page. `expected` are substrings of messages that a test means to cause."""

    problems: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.expected):
            self.problems.append(f"{message.type}: {message.text}")


@pytest.fixture
def watch(page: Page) -> Iterator[Watch]:
    """Fail the test on console errors, violations of the content policy, and uncaught exceptions."""
    watching = Watch()
    page.on("console", watching.hear)
    page.on("pageerror", lambda error: watching.problems.append(f"exception: {error}"))
    yield watching
    assert watching.problems == []


@pytest.fixture
def visitor(page: Page, watch: Watch, server: str, site: Site) -> Page:
    """A watched page on the running server; addresses are relative to it."""
    page.context.set_default_timeout(PATIENCE_MS)
    page.goto(server)
    return page


@pytest.fixture
def live_visitor(visitor: Page, worker: Workers) -> Page:
    """The same with workers that answer live requests."""
    return visitor
