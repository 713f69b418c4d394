from explorer.local.layout import CHECKOUT
from tests.inference.dictionaries import table, test_oracles
from tests.inference.dictionaries.test_layouts import WRITERS
from tests.interop.generated import PACKAGES, cases_of


def test_the_page_of_formats_is_current():
    assert (CHECKOUT / table.PAGE).read_text() == table.page(), "python -m tests.inference.dictionaries.table writes it"


def test_the_tests_that_it_names_exist():
    packages = {f"test_package[{package}-{case}]" for package in PACKAGES for case in cases_of(package)}
    for line in table.page().splitlines():
        if "test_layout_equals_its_formula" in line:
            case = line.split("test_layout_equals_its_formula[")[1].split("]")[0]
            assert case in WRITERS
            oracle = line.split(" | ")[-1].strip("| `")
            assert oracle in packages | {"–"} or hasattr(test_oracles, oracle)


def test_layouts_with_a_package_are_compared_with_it():
    assert table.oracle_of("overcomplete", "MpSAE") == "test_package[overcomplete-MpSAE-24x105-float32]"
    assert table.oracle_of("goodfire", "topk") == ""
