"""The containers run the same processes as `make demo`."""

import re

import yaml

from explorer.local import __main__ as front
from explorer.local.layout import CHECKOUT
from tests.test_docs import first_column

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


def test_the_database_has_the_major_version_of_the_embedded_one() -> None:
    from explorer.local import binaries

    assert COMPOSE["services"]["postgres"]["image"].endswith(f":pg{binaries.POSTGRES_MAJOR}")
