"""`python -m explorer.local COMMAND`: Facet, one of its processes, or only its embedded servers, on this machine."""

import argparse
import os
import signal
import sys
from typing import cast

from rich.console import Console

from explorer import settings
from explorer.local import commands
from explorer.local.commands import Queue
from explorer.local.layout import CHECKOUT, lay_out
from explorer.local.problems import LocalProblem
from explorer.local.supervisor import Options, Supervisor

COMMANDS = {
    "demo": "start everything, with the bundled model and its dictionaries",
    "up": "start everything, with what the database holds",
    "servers": "start only the embedded Postgres and Valkey, and print their URLs",
    "web": "become the web process; DATABASE_URL and REDIS_URL name the servers",
    "engine": "become a worker that answers live requests",
    "batch": "become a worker that runs builds",
}


def main() -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m explorer.local", description=__doc__)
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        choices.add_parser(name, help=text)
    command = parser.parse_args().command
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        if command == "servers":
            hold_servers(console)
        elif command in ("demo", "up"):
            Supervisor(options=options(demo=command == "demo"), console=console).run()
        else:
            become(command)
    except LocalProblem as problem:
        console.print(f"\n{problem.cause}\n  Remedy: {problem.remedy}", style="bold")
        return 1
    return 0


def become(name: str) -> None:
    """Replace this process by one of Facet's own, as containers and people who start workers by hand do."""
    chosen = options(demo=False)
    line = commands.web(host=chosen.host, port=chosen.port) if name == "web" else commands.worker(cast(Queue, name))
    os.chdir(CHECKOUT)
    os.execv(line[0], line)


def options(*, demo: bool) -> Options:
    """Read the environment of a start; docs/configuration.md describes each variable."""
    env = settings.env
    return Options(
        local=settings.FACET_LOCAL,
        host=env.str("FACET_HOST", default="127.0.0.1"),
        port=env.int("FACET_PORT", default=8000),
        port_is_named="FACET_PORT" in os.environ,
        database_url=env.str("DATABASE_URL", default=""),
        redis_url=env.str("REDIS_URL", default=""),
        allowed_hosts=env.str("FACET_ALLOWED_HOSTS", default=""),
        demo=demo,
    )


def hold_servers(console: Console) -> None:
    """Run the embedded servers until a signal."""
    layout = lay_out(settings.FACET_LOCAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with layout.postgres.running() as database_url, layout.valkey.running() as redis_url:
        console.print(f"export DATABASE_URL='{database_url}'\nexport REDIS_URL='{redis_url}'")
        try:
            signal.pause()
        except KeyboardInterrupt:
            console.print("Stopping.")


if __name__ == "__main__":
    sys.exit(main())
