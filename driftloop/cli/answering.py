"""The human's part of the command line: approve, reject, rollback, adopt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driftloop.cli import options
from driftloop.cli.options import as_json, loop_dir, print_json

if TYPE_CHECKING:
    from driftloop.entry import Entry
    from driftloop.workspace import Workspace

who = click.option("--by", metavar="WHO", required=True, help="Who says so; it goes into the ledger.")
why = click.option("--why", metavar="TEXT", default="", help="The reason, for those who read the ledger later.")
which = click.option("--version", metavar="V", help="Which candidate is meant. Default: the one that waits.")


@click.command()
@loop_dir
@who
@why
@which
@as_json
def approve(folder: Path, by: str, why: str, version: str | None, as_json: bool) -> None:
    """Promote the candidate that waits for approval.

    It is tried again in a clean process, and compared again where the champion is another by now.

    \b
    Example:
      driftloop approve my-loop --by ada --why "the drop on fibre is known and accepted"
    """
    from driftloop import approving

    entry = _answered(folder, "approving", lambda work: approving.approve(work, version, by, why))
    _print(entry, as_json, f"Version {entry.version} is champion, approved by {by}.")


@click.command()
@loop_dir
@who
@why
@which
@as_json
def reject(folder: Path, by: str, why: str, version: str | None, as_json: bool) -> None:
    """End the wait of a candidate; the champion stays.

    \b
    Example:
      driftloop reject my-loop --by ada --why "trained on the outage"
    """
    from driftloop import approving

    entry = _answered(folder, "rejecting", lambda work: approving.reject(work, version, by, why))
    _print(entry, as_json, f"Version {entry.version} was rejected by {by}; the champion stays.")


@click.command()
@loop_dir
@who
@why
@click.option("--to", metavar="V", help="The version to go back to. Default: the champion before today's.")
@as_json
def rollback(folder: Path, by: str, why: str, to: str | None, as_json: bool) -> None:
    """Make an earlier version champion again, through the same ledger and serving check.

    \b
    Examples:
      driftloop rollback my-loop --by ada --why "complaints since Tuesday"
      driftloop rollback my-loop --by ada --to 3
    """
    from driftloop import approving

    entry = _answered(folder, "rolling back", lambda work: approving.roll_back(work, to, by, why))
    _print(entry, as_json, f"Version {entry.version} is champion again: {entry.reason}.")


@click.command()
@loop_dir
@click.argument("model", metavar="MODEL")
@click.option(
    "--trained-until", "until", metavar="T", required=True, help="The last window, or time, it was trained on."
)
@who
@why
@click.option("--replace", "instead", is_flag=True, help="Take the place of the champion there is.")
@click.option("--trust-pickle", is_flag=True, help="Load a pickle, which runs whatever code it holds.")
@as_json
def adopt(
    folder: Path, model: str, until: str, by: str, why: str, instead: bool, trust_pickle: bool, as_json: bool
) -> None:
    """Make a model that was trained elsewhere champion.

    MODEL is an MLflow address of a fitted scikit-learn pipeline that takes the loop's features as columns. Candidates
    are compared with it on rows after T only, which it cannot have seen.

    \b
    Examples:
      driftloop adopt my-loop models:/churn-notebook/3 --trained-until 2024-03 --by ada
      driftloop adopt my-loop runs:/0a1b2c/model --trained-until 2024-03-31 --by ada --why "in use since spring"
    """
    from driftloop import adopting

    def answer(work: Workspace) -> Entry:
        return adopting.adopt(work, model, until, by, why, instead=instead, trust_pickle=trust_pickle)

    entry = _answered(folder, "adopting", answer)
    _print(entry, as_json, f"Version {entry.version} is champion, adopted by {by}.")
    for note in entry.details["notes"]:
        click.echo(f"Noted: {note}.", err=True)


COMMANDS = (approve, reject, rollback, adopt)


def _answered(folder: Path, doing: str, answer: Callable[[Workspace], Entry]) -> Entry:
    with opened(folder, doing) as work:
        from driftloop import following

        following.tell(work, os.environ)  # what a killed answer left unsaid
        entry = answer(work)
        following.tell(work, os.environ)
        return entry


@contextmanager
def opened(folder: Path, doing: str) -> Iterator[Workspace]:
    """The loop's workspace, with a word on what is under way."""
    from rich.console import Console

    with Console(stderr=True).status(f"{doing} …"):
        from driftloop.workspace import open_workspace

        yield open_workspace(folder, options.settings())


def _print(entry: Entry, as_json: bool, sentence: str) -> None:
    from driftloop.approving import report_of

    found: dict[str, Any] = report_of(entry)
    print_json(found) if as_json else click.echo(f"{sentence} (ledger row {entry.seq})")
