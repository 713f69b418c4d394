"""The progress of runs in the terminal, read from the API of the web process that this supervisor started."""

import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

POLL_SECONDS = 1.0
IDLE_POLL_SECONDS = 10.0
PLAIN_SECONDS = 15.0
ACTIVE = ("queued", "running")


@dataclass(slots=True, kw_only=True)
class RunsDisplay:
    """A bar for every run that is under way; where the output is not a terminal, a line now and then."""

    url: str
    console: Console
    bars: dict[int, TaskID] = field(default_factory=dict)
    progress: Progress | None = None
    polled: float = float("-inf")
    printed: float = 0.0

    def refresh(self) -> None:
        """Ask for the runs once a second, seldom where none is under way, and show what changed."""
        now = time.monotonic()
        if now - self.polled < (POLL_SECONDS if self.bars else IDLE_POLL_SECONDS):
            return
        self.polled = now
        try:
            runs = self._fetch()
        except (OSError, ValueError):  # the web process is starting again, or Postgres is
            return
        for run in runs:
            if run["state"] in ACTIVE or run["id"] in self.bars:
                self._show(run, now)
        if self.progress is not None:
            self.progress.refresh()
            if not self.bars:
                self.close()

    def close(self) -> None:
        """Leave the bars as they are and give the terminal back."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def _fetch(self) -> list[dict[str, Any]]:
        with urlopen(f"{self.url}/api/v1/runs", timeout=5) as response:
            body = json.load(response)
        return list(body["items"] if isinstance(body, dict) else body)

    def _show(self, run: dict[str, Any], now: float) -> None:
        if self.progress is None:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                console=self.console,
                auto_refresh=False,
                transient=True,
            )
            if self.console.is_terminal:
                self.progress.start()
        if run["id"] not in self.bars:
            self.bars[run["id"]] = self.progress.add_task("", total=None, facts="")
            self.console.print(f"Run {run['id']}: {run['title']}")
        total = run["total"] or None
        phase = run["phase"] or run["state"]
        task = self.bars[run["id"]]
        self.progress.update(task, description=phase, completed=run["done"], total=total, facts=describe(run))
        if run["state"] not in ACTIVE:
            self._finish(run)
        elif not self.console.is_terminal and now - self.printed > PLAIN_SECONDS:
            self.printed = now
            self.console.print(f"Run {run['id']}: {run['phase']} {describe(run)}")

    def _finish(self, run: dict[str, Any]) -> None:
        assert self.progress is not None
        task = self.bars.pop(run["id"])
        seconds = next((t.elapsed for t in self.progress.tasks if t.id == task), None) or 0
        self.progress.remove_task(task)
        if run["state"] == "done":
            self.console.print(f"Run {run['id']} is done, after {seconds // 60:.0f} min {seconds % 60:.0f} s.")
        else:
            self.console.print(f"Run {run['id']} {run['state']}. {run.get('error') or ''} {run.get('remedy') or ''}")


def describe(run: dict[str, Any]) -> str:
    """Return the state of a run in a few words: share, rate, time left."""
    if run["state"] == "queued":
        return "waits for the batch worker"
    parts = []
    if run["total"]:
        parts.append(f"{100 * run['done'] / run['total']:.0f} %")
    if run.get("rate"):
        parts.append(f"{run['rate']:,.0f} {run['unit']}/s")
    if run.get("eta_seconds"):
        minutes, seconds = divmod(round(run["eta_seconds"]), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return " · ".join(parts)
