"""The containers run the same processes as `make demo`."""

import os
import re
import subprocess
import sys

import yaml

from explorer.local import __main__ as front
from explorer.local.layout import CHECKOUT
from tests.test_docs import first_column

DEFAULTS_OF_CONTAINERS = {"FACET_LOG_FORMAT": "json", "FACET_ALLOWED_HOSTS": "localhost,127.0.0.1"}
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())


def test_every_process_of_facet_is_a_container() -> None:
    services = COMPOSE["services"]
    assert {"postgres", "valkey", "web", "engine", "batch"} <= set(services)
    for name in ("web", "engine", "batch"):
        assert services[name]["command"] == ["python", "-m", "explorer.local", name]
        assert name in front.COMMANDS


def test_containers_use_documented_variables() -> None:
    named = set(COMPOSE["x-facet"]["environment"]) | set(
        re.findall(r"FACET_\w+", (CHECKOUT / "Dockerfile").read_text())
    )
    assert named <= first_column("configuration.md")


# Variables that say nothing to a container: compose or the image sets them, or they are of one machine and its tests.
NOT_PASSED = {
    "FACET_HOST",
    "FACET_LOCAL",
    "FACET_STATIC",
    "FACET_PORT",  # where compose publishes the web process
    "FACET_DEBUG",
    "FACET_URL",
    "FACET_CHROMIUM",
}


def test_every_variable_of_use_is_passed_on_with_its_default() -> None:
    environment = COMPOSE["x-facet"]["environment"]
    documented = {name for name in first_column("configuration.md") if name.startswith("FACET_")}
    assert {name for name in environment if name.startswith("FACET_")} == documented - NOT_PASSED
    rows = dict(
        re.findall(r"^\| `(FACET_\w+)` \| (.*?) \|", (CHECKOUT / "docs" / "configuration.md").read_text(), re.M)
    )
    for name in documented - NOT_PASSED:
        passed = re.fullmatch(rf"\$\{{{name}:-(.*)\}}", environment[name])
        assert passed, f"{name} is {environment[name]!r}"
        plain = re.fullmatch(r"`([^`]*)`", rows[name])
        if name in DEFAULTS_OF_CONTAINERS:
            assert passed[1] == DEFAULTS_OF_CONTAINERS[name]
        else:
            # A default that is a value is the same one; others, such as a folder below FACET_LOCAL, are left to Facet.
            assert passed[1] == (plain[1] if plain and "/" not in plain[1] else ""), name


def test_empty_variables_are_as_good_as_none() -> None:
    """What compose passes empty must leave every setting at its default."""
    empty = {
        name: ""
        for name, value in COMPOSE["x-facet"]["environment"].items()
        if name.startswith("FACET_") and str(value).endswith(":-}")
    }
    show = (
        "from django.conf import settings as s;"
        " print(s.FACET_DEVICE, s.FACET_BUILDS, s.FACET_CORPORA, s.FACET_EXPORTS, s.FACET_ADD_FOLDERS,"
        " s.CSRF_TRUSTED_ORIGINS, len(s.SECRET_KEY) > 20)"
    )
    bare = {name: value for name, value in os.environ.items() if name not in empty}
    said = [
        subprocess.run(
            [sys.executable, "-c", show],
            env=bare | extra | {"DJANGO_SETTINGS_MODULE": "explorer.settings"},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for extra in ({}, empty)
    ]
    assert said[0] == said[1] and "True" in said[0]


def test_the_database_has_the_major_version_of_the_embedded_one() -> None:
    from explorer.local import binaries

    assert COMPOSE["services"]["postgres"]["image"].endswith(f":pg{binaries.POSTGRES_MAJOR}")
