import re

from tests.inference.models_document import DOCUMENT, TABLE, table


def test_the_table_of_families_is_current():
    assert TABLE.search(DOCUMENT.read_text())[0] == table()


def test_the_tests_that_it_names_exist():
    here = "".join(path.read_text() for path in DOCUMENT.parents[1].glob("tests/inference/test_*.py"))
    named = re.findall(r"`(test_\w+)`", DOCUMENT.read_text())
    assert [name for name in named if f"def {name}(" not in here] == []
