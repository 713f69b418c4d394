from explorer.local.layout import CHECKOUT
from tests.inference.dictionaries import table, test_oracles
from tests.inference.dictionaries.test_layouts import WRITERS


def test_the_page_of_formats_is_current():
    assert (CHECKOUT / table.PAGE).read_text() == table.page(), "python -m tests.inference.dictionaries.table writes it"


def test_the_tests_that_it_names_exist():
    for line in table.page().splitlines():
        if "test_layout_equals_its_formula" in line:
            case = line.split("test_layout_equals_its_formula[")[1].split("]")[0]
            assert case in WRITERS
        if "`test_" in line and line.startswith("| `"):
            oracle = line.split(" | ")[-1].strip("| `")
            assert oracle == "–" or hasattr(test_oracles, oracle)
