"""Tests marked `interop` run in the environment of the oracles, as items of the one session that asked for them.

That environment holds packages which users do not install, and which the rest of the suite must not see. So the
session hands the marked tests that it selected to a second pytest there, which runs them beside the others and writes
each report as a line; in its turn each item then takes the reports that are its own. Where the environment is missing
the tests are skipped with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop import environments

REPORTS = "FACET_INTEROP_REPORTS"
MARK = "interop"
_POLL_SECONDS = 0.05


def pytest_configure(config: pytest.Config) -> None:
    """Write reports where another session asked for them; otherwise prepare to ask."""
    if path := os.environ.get(REPORTS):
        config.pluginmanager.register(Writer(config, Path(path)))
    elif not config.option.collectonly:
        config.pluginmanager.register(Forwarder())


@dataclass(slots=True, eq=False)
class Writer:
    """In the environment of the oracles: writes reports."""

    config: pytest.Config
    path: Path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        line = json.dumps(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))
        with self.path.open("a") as file:
            file.write(line + "\n")


@dataclass(slots=True, eq=False)
class Forwarder:
    """In the session that was asked for: hands tests over and takes their reports."""

    nodes: list[str] = field(default_factory=list)
    other: Other | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if why_not() or session.config.option.usepdb:
            return
        self.nodes = [item.nodeid for item in session.items if item.get_closest_marker(MARK)]
        # A process of pytest-xdist knows all tests and runs some: it asks when the first is one of these.
        if self.nodes and not hasattr(session.config, "workerinput"):
            self.other = Other.start(session.config, self.nodes)

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if item.get_closest_marker(MARK) and (reason := why_not()):
            pytest.skip(reason)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if item.nodeid not in self.nodes:
            return None
        if self.other is None:
            self.other = Other.start(item.config, self.nodes)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.other.reports_of(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        # The item before left standing what it shares with this one, a module's fixtures say.
        item.session._setupstate.teardown_exact(nextitem)
        return True

    def pytest_unconfigure(self) -> None:
        if self.other is not None:
            self.other.stop()


def why_not() -> str:
    """Say why the oracles cannot run at all; single packages that are missing skip their own tests."""
    return "" if environments.is_there(environments.ON_TOP) else environments.missing(environments.ON_TOP)


@dataclass(slots=True, eq=False)
class Other:
    """The other pytest, and what it has reported so far."""

    folder: tempfile.TemporaryDirectory[str]
    process: subprocess.Popen[bytes]
    seen: dict[str, list[pytest.TestReport]] = field(default_factory=lambda: defaultdict(list))
    read: int = 0

    @classmethod
    def start(cls, config: pytest.Config, nodes: list[str]) -> Other:
        """Run tests in the environment of the oracles."""
        folder = tempfile.TemporaryDirectory(prefix="facet-interop-")
        chosen, log = Path(folder.name, "nodes"), Path(folder.name, "log")
        chosen.write_text("\n".join(nodes))
        Path(folder.name, "reports").touch()
        python = str(environments.python_of(environments.ON_TOP))
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", f"@{chosen}"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=config.rootpath,
                env={**os.environ, REPORTS: str(Path(folder.name, "reports")), "PYTEST_ADDOPTS": ""},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return cls(folder, process)

    def reports_of(self, item: pytest.Item) -> Iterator[pytest.TestReport]:
        """Yield the reports of an item as they come; one failure where the other pytest ended without them."""
        given = 0
        while True:
            ended = self.process.poll() is not None
            self._read(item.config)
            for report in self.seen[item.nodeid][given:]:
                given += 1
                yield report
                if report.when == "teardown":
                    return
            if ended:
                break
            time.sleep(_POLL_SECONDS)
        log = Path(self.folder.name, "log").read_text(errors="replace")
        yield pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={MARK: 1},
            outcome="failed",
            longrepr=f"pytest in .local/interop/oracles ended without a report of this test:\n{log[-4000:]}",
            when="call",
        )

    def stop(self) -> None:
        """End the other pytest, if it runs, and remove its files."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.folder.cleanup()

    def _read(self, config: pytest.Config) -> None:
        with Path(self.folder.name, "reports").open("rb") as file:
            file.seek(self.read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.read += len(whole) + len(newline)
        for line in whole.splitlines():
            report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
            if isinstance(report.longrepr, list):  # where and why it was skipped; JSON has no tuples
                report.longrepr = tuple(report.longrepr)
            self.seen[report.nodeid].append(report)
