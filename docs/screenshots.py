"""Take the README's pictures from a running Facet: `make screenshots`.

FACET_URL names it; without, it is the demonstration's usual address. Pictures go to docs/screenshots/, each below
300 kB. What they show is what that Facet holds: nothing is staged but the texts typed into the boxes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Error, Page, sync_playwright

FOLDER = Path(__file__).parent / "screenshots"
MAX_BYTES = 300_000
VIEWPORT = {"width": 1360, "height": 850}
PHONE = {"width": 390, "height": 780}
WAIT = 60_000

TEXT = """def area(radius):
    if radius < 0:
        raise ValueError("negative radius")
    return math.pi * radius ** 2
"""
LINE = 'if radius < 0: raise ValueError("negative radius")'
PROMPT = "def read(self, size):\n    if size < 0:\n        "
STRENGTH = 1
SEARCH = "raise"


def main() -> int:
    """Take every picture; return the exit status."""
    url = os.environ.get("FACET_URL", "http://127.0.0.1:8000").rstrip("/")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            take_all(browser, url)
        except Error as error:
            first = str(error).strip().partition("\n")[0]
            sys.stderr.write(f"{first}\n  Remedy: start Facet with `make demo`, or name a running one in FACET_URL.\n")
            return 1
        finally:
            browser.close()
    return 0


def take_all(browser: Browser, url: str) -> None:
    """Walk through the pages and save each."""
    page = _page(browser, "light")
    page.goto(url)
    page.locator("[data-row] h3 a.cover").first.wait_for()
    save(page, "home")
    feature = _telling_feature(page, url)
    model, source, index = feature.strip("/").split("/")
    page.goto(f"{url}/{model}/{source}")
    page.locator(".js-plotly-plot .bars").wait_for(timeout=WAIT)
    page.wait_for_timeout(500)
    save(page, "dictionary")
    page.goto(f"{url}{feature}?text={quote(LINE)}")
    page.locator("#test-result .tokens").wait_for(timeout=WAIT)
    page.locator("#group-0 .example .peak i").first.hover()
    page.locator("#tip.on").wait_for()
    save(page, "feature")
    page.goto(f"{url}/prompt?model={model}&text={quote(TEXT)}")
    page.locator("[data-fired] li").first.wait_for(timeout=WAIT)
    page.locator("[data-fired] li").nth(2).hover()
    save(page, "prompt")
    page.goto(f"{url}/search?q={SEARCH}")
    save(page, "search")

    dark = _page(browser, "dark")
    dark.goto(f"{url}{feature}")
    save(dark, "feature-dark")
    dark.goto(f"{url}/steer?model={model}&f={source}/{index}@{STRENGTH}&n=64&text={quote(PROMPT)}")
    dark.get_by_role("button", name="Generate").click()
    dark.locator("[data-status]").filter(has_text="64 tokens").wait_for(timeout=WAIT)
    dark.locator("[data-side] i").nth(-20).hover()
    dark.locator("#tip.on").wait_for()
    save(dark, "steer")

    phone = _page(browser, "light", PHONE)
    phone.goto(f"{url}{feature}")
    save(phone, "phone")


def _telling_feature(page: Page, url: str) -> str:
    """Return the address of the best match of a search among features of the residual stream, or of any."""
    page.goto(f"{url}/search?q={SEARCH}")
    found = page.locator("[aria-labelledby=by-explanation] a.cover").evaluate_all(
        "(links) => links.map((link) => link.getAttribute('href'))"
    )
    return next((address for address in found if "-res-" in address), found[0])


def save(page: Page, name: str) -> None:
    """Write one picture, and refuse one that is too large for a README."""
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{path.name} has {size:,} bytes; the limit is {MAX_BYTES:,}.")
    sys.stdout.write(f"{path.name}  {size // 1000} kB\n")


def _page(browser: Browser, theme: str, viewport: dict[str, int] = VIEWPORT) -> Page:
    page = browser.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce").new_page()
    page.set_default_timeout(WAIT)
    return page


if __name__ == "__main__":
    sys.exit(main())
