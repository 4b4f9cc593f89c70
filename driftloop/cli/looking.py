"""The commands that only look: check, status, history, diff, compare, drift."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driftloop.cli import options
from driftloop.cli.options import as_json, loop_dir, print_json
from driftloop.errors import ContractError, DriftloopError, WindowError

if TYPE_CHECKING:
    from datetime import datetime

    from driftloop.contract import Loop
    from driftloop.entry import Entry
    from driftloop.ledger import Verified
    from driftloop.reading import Reading


@click.command()
@loop_dir
@as_json
def check(folder: Path, as_json: bool) -> None:
    """Validate loop.toml, schema.yaml, golden.csv and every window; say what is wrong where.

    \b
    Example:
      driftloop check my-loop
    """
    from rich.progress import track

    from driftloop import draft, golden, reading, recipe, schema, search, training
    from driftloop.cli import render
    from driftloop.storage import shown
    from driftloop.windows import none_yet, open_windows
    from driftloop.workspace import known_cases

    loop = draft.resolved(folder)
    recipe.require(loop)
    training.require_strategies(loop)
    search.require(loop)
    cases, rules = known_cases(folder, loop), schema.load(folder, loop)
    windows = open_windows(loop, folder, options.settings())
    _check_values(loop, windows.ids())
    found: list[dict[str, Any]] = []
    seen: dict[str, set[str]] = {}
    labels: set[str] = set()
    first: tuple[str, ...] | None = None
    before: reading.Before = {}
    for name in track(windows.ids(), "checking", transient=True, console=render.progress_console()):
        read = reading.read(windows, name, loop, rules, before)
        found.append(_looked_at(name, read, loop, seen, first))
        if rules:
            found[-1]["validation"] = read.report(loop)
        if read.window:
            first = first or read.window.labels
            labels |= set(read.window.labels or ())
    if labels:
        cases.require_labels(sorted(labels), loop.task, str(folder / golden.FILE))
    for note in cases.unseen(seen):
        click.echo(f"Noted: {folder / golden.FILE}: {note}.", err=True)
    if not found:
        raise ContractError(none_yet(loop, folder))
    if not any(windows.has_labels(name) for name in windows.ids()):
        wherever = f"{shown(loop.windows.labels)}/ or " if loop.windows.labels else ""
        click.echo(f"Noted: no window has labels yet; target {loop.target} is in no {wherever}window.", err=True)
    bad = [row for row in found if row["problems"]]
    print_json({"loop": loop.name, "ok": not bad, "windows": found}) if as_json else render.checked(loop.name, found)
    if bad:
        raise DriftloopError(f"{len(bad)} of {len(found)} windows would be quarantined; mend them and check again.")


def _looked_at(
    name: str, read: Reading, loop: Loop, seen: dict[str, set[str]], labels: tuple[str, ...] | None
) -> dict[str, Any]:
    """What `check` says of a window; ``labels`` are those of the windows before, ``seen`` their categories, and its."""
    from driftloop import frame, monitoring

    row: dict[str, Any] = {"window": name, "rows": None, "labelled": None, "problems": [*read.problems], "notes": []}
    if (window := read.window) is None:
        return row
    try:
        monitoring.require_spelled_alike(window, labels, loop.task)
    except WindowError as error:
        row["problems"] = error.problems
    notes = [*window.notes, *frame.unseen(window, seen)]
    for column in loop.columns.categorical:
        seen[column] = seen.get(column, set()) | set(window.X[column])
    return row | {"rows": len(window.X), "labelled": window.labelled_rows, "notes": notes}


def _check_values(loop: Loop, ids: list[str]) -> None:
    """Raise ContractError for what only the windows, or Prefect, can tell is wrong in loop.toml."""
    from driftloop import references

    if all(name.isdecimal() for name in ids) and len({len(name) for name in ids}) > 1:
        said = f"the windows come in the order {', '.join(ids[:5])}{', …' if len(ids) > 5 else ''}, as text sorts"
        click.echo(f"Noted: {said}: name them with as many digits each where another order is meant.", err=True)

    references.require(loop, ids)
    if loop.schedule:
        from flows.deployments import schedule

        schedule(loop)


@click.command()
@loop_dir
@as_json
def status(folder: Path, as_json: bool) -> None:
    """Where the loop stands: champion, windows, last verdict, what it waits for.

    \b
    Example:
      driftloop status my-loop --json
    """
    from driftloop.cli import records
    from driftloop.settings import without_password
    from driftloop.standing import standing

    found = standing(folder, options.settings())
    print_json(found) if as_json else records.status(found, folder, without_password(options.settings().ledger_url))


@click.command()
@loop_dir
@click.option("--at", metavar="TIME", help="Which version served then: a time as in 2024-05-03T10:00Z.")
@click.option("--verify", is_flag=True, help="Look for rows that were changed or removed behind the ledger's back.")
@as_json
def history(folder: Path, at: str | None, verify: bool, as_json: bool) -> None:
    """The ledger: every verdict and decision with its reason, and who was champion from when to when.

    With --json one object a line.

    \b
    Examples:
      driftloop history my-loop
      driftloop history my-loop --at 2024-05-03T10:00Z
      driftloop history my-loop --verify
    """
    from dataclasses import asdict

    from driftloop import contract, ledger
    from driftloop.cli import records
    from driftloop.settings import without_password

    url, loop = options.settings().ledger_url, contract.load(folder).name
    if verify:
        _verified(ledger.verify(url, loop), without_password(url), as_json)
        return
    entries = ledger.peek(url, loop)
    if at is not None:
        _served_at(entries, at, as_json)
    elif as_json:
        for entry in entries:
            print_json({**asdict(entry), "time": entry.time.isoformat()})
    else:
        records.history(entries, without_password(url))


def _verified(found: Verified, ledger: str, as_json: bool) -> None:
    problems = list(found.problems)
    if as_json:
        print_json({"rows": found.rows, "ok": not problems, "problems": problems, "last_hash": found.last_hash})
    if problems:
        raise DriftloopError(
            f"the ledger at {ledger} was changed behind its back: {'; '.join(problems)}. Restore it from a backup."
        )
    if not as_json:
        click.echo(f"{found.rows} rows, each follows the one before. The last one's hash: {found.last_hash or 'none'}")


def _served_at(entries: list[Entry], at: str, as_json: bool) -> None:
    from driftloop.cli import records
    from driftloop.reigns import reign_at

    moment = _moment(at)
    reign = reign_at(entries, moment)
    if as_json:
        print_json({"at": moment.isoformat(), **(records.reign_json(reign) if reign else {"version": None})})
    elif reign is None:
        click.echo(f"No version was champion at {moment:%Y-%m-%d %H:%M:%S} UTC.")
    else:
        click.echo(records.reign_sentence(reign))


def _moment(at: str) -> datetime:
    """Raises ContractError; a time without a zone is taken as UTC."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(at)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ContractError(f"--at {at}: expected a time such as 2024-05-03T10:00Z.") from None


@click.command()
@loop_dir
@click.argument("one", metavar="V1")
@click.argument("other", metavar="V2")
@as_json
def diff(folder: Path, one: str, other: str, as_json: bool) -> None:
    """What lies between two versions: data, parameters, metrics, slices, drift.

    \b
    Example:
      driftloop diff my-loop 3 5
    """
    from driftloop.cli import records
    from driftloop.cli.answering import opened

    with opened(folder, f"comparing versions {one} and {other}") as work:
        from driftloop import drift_worker
        from driftloop.difference import difference

        drift_worker.start()
        try:
            found = difference(work, one, other)
        finally:
            drift_worker.stop()
    print_json(found) if as_json else records.difference(found)


@click.command()
@loop_dir
@options.window
@click.option("--strategies", metavar="S", default="", help="Separated by commas. Default: those of loop.toml.")
@as_json
def compare(folder: Path, window: str | None, strategies: str, as_json: bool) -> None:
    """An old model on its own and on W's holdout, beside new ones made with W by each strategy.

    The old one has learnt from all labelled windows before W. All are scored on rows that none has seen; nothing is
    registered. With several [[model.candidates]] each has its turn.

    \b
    Examples:
      driftloop compare my-loop
      driftloop compare my-loop --window 2024-03 --strategies fine_tune,all,mix:0.7
    """
    from rich.console import Console

    from driftloop import progress
    from driftloop.cli import render

    with Console(stderr=True).status("reading windows …") as status:
        from driftloop.comparing import comparison
        from driftloop.workspace import open_workspace

        work = open_workspace(folder, options.settings())
        with progress.heard_by(lambda line: status.update(f"{line} …")):
            found = comparison(work, window, [name.strip() for name in strategies.split(",") if name.strip()])
    print_json(found) if as_json else render.models(found)


@click.command()
@loop_dir
@click.option("--from", "first", metavar="W", help="First window. Default: the oldest.")
@click.option("--to", "last", metavar="W", help="Last window. Default: the newest.")
@click.option(
    "--reference", metavar="R", help="training, previous, year_ago or a window. Default: drift.reference in loop.toml."
)
@click.option("--column", "columns", metavar="C", multiple=True, help="Only this feature; may be given several times.")
@click.option(
    "--out",
    "folder_out",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the plots go. Default: drift/LOOP in DRIFTLOOP_HOME.",
)
@as_json
def drift(folder: Path, columns: tuple[str, ...], folder_out: Path | None, as_json: bool, **asked: str | None) -> None:
    """When did it start? Each feature's drift in each window; of drifted ones since when, how far and what changed.

    Compared with what the champion was trained on; without a champion, with the first window. Records nothing; a heat
    map and a plot a drifted feature are written as PNG.

    \b
    Examples:
      driftloop drift my-loop
      driftloop drift my-loop --from 2024-03 --to 2024-09 --reference 2024-02
      driftloop drift my-loop --reference year_ago --column monthly_fee --json
    """
    from rich.console import Console

    with Console(stderr=True).status("reading windows …") as status:
        from driftloop import plots, progress
        from driftloop.cli import drift_table
        from driftloop.look_back import look_back

        with progress.heard_by(lambda line: status.update(f"{line} …")):
            settings = options.settings()
            found = look_back(folder, settings, columns=columns, **asked)
            own = settings.home / "drift" / found.loop
            if folder_out is None:
                shutil.rmtree(own, ignore_errors=True)  # plots of columns that drift no longer
            drawn = plots.write(found, folder_out or own)
    print_json(found.json() | drawn.json()) if as_json else drift_table.show(found, drawn)


COMMANDS = (check, status, history, diff, compare, drift)
