"""docs/kernels.md says what was last measured, and has every kernel."""

from benchmarks import kernel_page
from explorer.local.layout import CHECKOUT


def test_the_page_has_the_table_of_what_was_measured() -> None:
    page = kernel_page.PAGE.read_text()
    assert page == kernel_page.with_table(page, kernel_page.saved())


def test_every_kernel_is_on_the_page_and_measured() -> None:
    folders = {path.parent.name for path in (CHECKOUT / "kernels").glob("*/reference.py")}
    page = kernel_page.PAGE.read_text()
    assert all(f"| `{name}` |" in page for name in folders)
    assert folders == {row["details"]["kernel"].partition(",")[0] for row in kernel_page.saved()}
