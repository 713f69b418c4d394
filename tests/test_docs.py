"""What the documents say about settings, commands, pages, the API and the Makefile is what there is."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import URLPattern, URLResolver, get_resolver

from explorer.local.layout import CHECKOUT
from tests.test_house import PACKAGES

DOCS = CHECKOUT / "docs"
READERS = {"bool", "float", "int", "list", "str", "url"}
VARIABLE = re.compile(r"^(?:FACET_[A-Z_]+|DATABASE_URL|REDIS_URL)$")
# What every management command takes.
COMMON_OPTIONS = {"--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color",
                  "--force-color", "--skip-checks"}  # fmt: skip


def first_column(document: str) -> set[str]:
    """Return what stands in backticks in the first column of a document's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / document).read_text(), re.MULTILINE))


def variables_read() -> set[str]:
    """Return the names of environment variables that the code reads, from its syntax trees."""
    names = set()
    folders = (*PACKAGES, "docs")
    for path in (*(p for name in folders for p in (CHECKOUT / name).rglob("*.py")), CHECKOUT / "tests" / "conftest.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            argument = node.args[0]
            if node.func.attr in (READERS | {"get"}) and isinstance(argument, ast.Constant):
                names.add(str(argument.value))
    return {name for name in names if VARIABLE.match(name)}


def test_every_variable_is_documented() -> None:
    documented = {name for name in first_column("configuration.md") if VARIABLE.match(name)}
    assert documented == variables_read()


def own_commands() -> list[str]:
    return sorted(name for name, app in get_commands().items() if app in PACKAGES)


def test_every_command_is_documented() -> None:
    assert re.findall(r"^## `(\w+)`$", (DOCS / "commands.md").read_text(), re.MULTILINE) == own_commands_in_order()


def own_commands_in_order() -> list[str]:
    """Return the commands in the order in which one uses them."""
    order = ["add_model", "add_dictionary", "add_corpus", "build", "evaluate", "import_features", "export_features",
             "export_html", "add_account", "demo_setup", "resume_runs", "synthesize", "plans"]  # fmt: skip
    return sorted(own_commands(), key=lambda name: (order.index(name) if name in order else len(order), name))


@pytest.mark.parametrize("name", own_commands())
def test_every_option_of_a_command_is_documented(name: str) -> None:
    section = (DOCS / "commands.md").read_text().split(f"## `{name}`\n")[1].split("\n## ")[0]
    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", section, re.MULTILINE)) == options - COMMON_OPTIONS


def documents() -> Iterator[Path]:
    yield CHECKOUT / "README.md"
    yield from sorted(DOCS.glob("*.md"))


def quoted_commands() -> Iterator[tuple[str, str]]:
    for document in documents():
        for line in re.findall(r"manage\.py (\w+ .*)$", document.read_text(), re.MULTILINE):
            if line.split()[0] in own_commands():
                yield document.name, line.split("`")[0]


@pytest.mark.parametrize(("document", "line"), list(quoted_commands()))
def test_every_command_line_in_the_documents_is_one_that_the_command_takes(document: str, line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(arguments)


def page_addresses(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            if not route.startswith("/api/"):
                yield from page_addresses(pattern.url_patterns, route)
        else:
            route = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", route)
            yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)


def test_every_page_is_documented() -> None:
    documented = {name for name in first_column("pages.md") if name.startswith("/")}
    assert documented == set(page_addresses(get_resolver().url_patterns))


def test_every_route_of_the_api_is_documented() -> None:
    from explorer.api import api

    schema = api.get_openapi_schema()
    routes = {f"{method.upper()} {path}" for path, operations in schema["paths"].items() for method in operations}
    text = (DOCS / "api.md").read_text()
    assert {route for route in routes if f"`{route}`" not in text} == set()


def test_every_target_of_the_makefile_is_documented() -> None:
    targets = set(re.findall(r"^(\w+):.*## ", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    assert {
        name.removeprefix("make ") for name in first_column("development.md") if name.startswith("make ")
    } == targets


@pytest.mark.parametrize("document", [pytest.param(path, id=path.name) for path in documents()])
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text) + re.findall(r'(?:src|href)="([^"#:]+)"', text)
    assert [link for link in links if not (document.parent / link).exists()] == []
