"""The addresses of Postgres and Valkey: how URLs become settings, and which servers this machine started last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import environ

NAME = "addresses.json"
DATABASE = "facet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The two URLs that every process of a deployment shares."""

    database_url: str
    redis_url: str


def recorded(local: Path) -> Addresses:
    """Return the addresses that were recorded under `local`, or the usual ports of this machine where none were."""
    try:
        return Addresses(**json.loads((local / NAME).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Addresses(
            database_url=f"postgresql://{DATABASE}@localhost:5432/{DATABASE}", redis_url="redis://localhost:6379/0"
        )


def record(local: Path, addresses: Addresses) -> None:
    """Write the addresses under `local`, in one step so that no reader meets half a file."""
    draft = local / f"{NAME}.new"
    draft.write_text(json.dumps(asdict(addresses)))
    draft.replace(local / NAME)


def database(url: str) -> dict[str, Any]:
    """Return Django's database settings for a URL, also for a Unix socket in libpq's form `?host=/folder`."""
    config: dict[str, Any] = environ.Env.db_url_config(url)
    options = config.setdefault("OPTIONS", {})
    config["HOST"] = options.pop("host", config["HOST"])
    return config


def database_url(config: Mapping[str, Any]) -> str:
    """Return the URL of Django's database settings: the inverse of `database`."""
    user = quote(config["USER"], safe="") + (f":{quote(config['PASSWORD'], safe='')}" if config["PASSWORD"] else "")
    name = quote(config["NAME"], safe="")
    if config["HOST"].startswith("/"):
        return f"postgresql://{user}@/{name}?host={config['HOST']}"
    port = f":{config['PORT']}" if config["PORT"] else ""
    return f"postgresql://{user}@{config['HOST']}{port}/{name}"


def broker(redis_url: str) -> str:
    """Return kombu's spelling of a Redis URL: it writes `redis+socket` where the client library writes `unix`."""
    scheme, rest = redis_url.split("://", 1)
    if scheme != "unix":
        return redis_url
    path, _, query = rest.partition("?")
    number = query.partition("db=")[2].partition("&")[0] or "0"
    return f"redis+socket://{path}?virtual_host={number}"
