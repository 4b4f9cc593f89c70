"""The commands that run flows: monitor, train, replay."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from driftloop.cli import options
from driftloop.cli.options import as_json, force, loop_dir, print_json, window
from driftloop.errors import ContractError, command

if TYPE_CHECKING:
    from driftloop.contract import Loop


@click.command()
@loop_dir
@window
@force
@click.option("--live", is_flag=True, help="Only compare the last requests in the prediction log with training.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="With --live: how many rows. Default: 1000.")
@as_json
def monitor(folder: Path, window: str | None, force: bool, live: bool, last: int | None, as_json: bool) -> None:
    """Check a window, measure drift, retrain when the verdict says so.

    With --live nothing is recorded or trained; where the last requests drift, an alert goes out and it ends with 1.

    \b
    Examples:
      driftloop monitor my-loop
      driftloop monitor my-loop --window 2024-03 --json
      driftloop monitor my-loop --live --last 500
    """
    if live:
        from driftloop.cli import production

        if window or force:
            raise click.UsageError("--live looks at the last requests; it takes neither --window nor --force.")
        production.look(folder, last or production.LAST, as_json)
        return
    if last:
        raise click.UsageError("--last is for --live.")
    with _flows(folder, f"monitoring {window or 'the newest window'}", window) as flows:
        report = flows.monitor(folder, window, force)
        notes = flows.notes(folder, report["window"])
    from driftloop.cli import render  # late: the server should not wait for the second that its imports take

    print_json(report) if as_json else render.window(report, folder)
    for note in notes:
        click.echo(f"Noted: {note}.", err=True)
    if "quarantine" in report:
        click.echo(_quarantined(report, folder), err=True)
        sys.exit(1)


@click.command()
@loop_dir
@window
@as_json
def train(folder: Path, window: str | None, as_json: bool) -> None:
    """Train a candidate now, compare it with the champion, promote it if it earned it.

    \b
    Example:
      driftloop train my-loop --window 2024-03
    """
    with _flows(folder, "training a candidate", window) as flows:
        result = flows.train(folder, window)
    from driftloop.cli import render

    print_json(result) if as_json else render.training(result, folder)


@click.command()
@loop_dir
@click.option("--from", "first", metavar="W", help="First window. Default: the oldest.")
@click.option("--to", "last", metavar="W", help="Last window. Default: the newest.")
@force
@as_json
def replay(folder: Path, first: str | None, last: str | None, force: bool, as_json: bool) -> None:
    """Monitor all windows in order, as if each had just arrived.

    \b
    Examples:
      driftloop replay my-loop
      driftloop replay my-loop --from 2024-02 --to 2024-06 --json
    """
    if first and last and first > last:
        raise click.UsageError(f"--from {first} lies after --to {last}.")
    reports = []
    with _flows(folder, "starting", first, last) as flows:
        windows = flows.windows(folder, first, last)
        for number, name in enumerate(windows, 1):
            flows.say(f"monitoring {name} ({number} of {len(windows)})")
            reports.append(flows.monitor(folder, name, force))
            if as_json:
                print_json(reports[-1])
            if "quarantine" in reports[-1]:
                click.echo(_quarantined(reports[-1], folder), err=True)
    if not as_json:
        from driftloop.cli import render

        render.months(reports)
    if reports and all("quarantine" in report for report in reports):
        sys.exit(1)


COMMANDS = (monitor, train, replay)


def _quarantined(report: dict[str, Any], folder: Path) -> str:
    problems = "; ".join(report["quarantine"]["problems"])
    said = f"Window {report['window']} is quarantined: {problems.rstrip('.')}."
    if report["quarantine"].get("late"):
        return said
    again = f"{command('monitor', folder)} --window {report['window']}"
    return f"{said} Mend it, loop.toml or schema.yaml, and run `{again}` again."


class Flows:
    """The flows, imported and connected; ``say`` names what is under way."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def say(self, text: str) -> None:
        self._status.update(f"{escape(text)} …")

    def monitor(self, folder: Path, window: str | None, force: bool) -> dict[str, Any]:
        from flows.monitor_flow import monitor_flow

        return monitor_flow(folder.absolute(), window, force)

    def train(self, folder: Path, window: str | None) -> dict[str, Any]:
        from flows.train_and_compare_flow import train_and_compare_flow

        return train_and_compare_flow(folder.absolute(), window)

    def notes(self, folder: Path, window: str) -> list[str]:
        """What was unusual about the window, and no reason to put it aside."""
        from driftloop.entry import Kind
        from driftloop.workspace import open_workspace

        entries = open_workspace(folder, options.settings()).ledger.entries(window)
        found = (entry.details for entry in reversed(entries) if entry.kind in (Kind.VERDICT, Kind.QUARANTINE))
        return list(next(found, {}).get("notes", []))

    def windows(self, folder: Path, first: str | None, last: str | None) -> list[str]:
        """The ids from ``first`` to ``last``, both included, without those that it is too late for."""
        from driftloop.standing import passed_by
        from driftloop.windows import none_yet
        from driftloop.workspace import open_workspace

        work = open_workspace(folder, options.settings())
        ids = work.windows.ids()
        if not ids:
            raise ContractError(none_yet(work.loop, folder))
        asked = [i for i in ids if (first is None or i >= first) and (last is None or i <= last)]
        if late := passed_by(asked, work.ledger.entries()):
            click.echo(f"Passed by: {', '.join(sorted(late))}, older than what the champion was trained on.", err=True)
        return [i for i in asked if i not in late]


@contextmanager
def _flows(folder: Path, doing: str, *windows: str | None) -> Iterator[Flows]:
    """Prefect reachable and the flows imported.

    A typo in loop.toml or in one of ``windows`` is told before that, while the server starts.
    """
    from rich.console import Console

    from driftloop import progress
    from flows.local import prefect_at_hand

    with Console(stderr=True).status(f"{doing} …") as status, prefect_at_hand(options.settings()) as prefect:
        from driftloop import contract

        loop = contract.load(folder)
        _require(loop, folder, [name for name in windows if name is not None])
        prefect.connect()

        from prefect import tags

        running = Flows(status)
        with tags("driftloop", loop.name), progress.heard_by(running.say):
            yield running


def _require(loop: Loop, folder: Path, asked: Sequence[str]) -> None:
    """Raise ContractError unless these are windows of the loop."""
    if not asked:
        return
    from driftloop.windows import none_yet, open_windows

    ids = open_windows(loop, folder, options.settings()).ids()
    if not ids:
        raise ContractError(none_yet(loop, folder))
    for name in asked:
        if name not in ids:
            raise ContractError(
                f"there is no window {name}; there are {len(ids)}, from {ids[0]} to {ids[-1]}. "
                f"`{command('status', folder)}` lists them."
            )
