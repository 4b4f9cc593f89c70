"""The command that makes a loop of a folder of windows: init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from driftloop.cli import options
from driftloop.cli.options import loop_dir
from driftloop.errors import ContractError, command

if TYPE_CHECKING:
    import pandas as pd

TASKS = ("binary", "multiclass", "regression")  # contract.Task; --help does without pydantic


@click.command()
@loop_dir
@click.option("--target", metavar="T", help="The column to predict.")
@click.option("--task", metavar="K", type=click.Choice(TASKS), help=f"{', '.join(TASKS[:-1])} or {TASKS[-1]}.")
@click.option("--positive", metavar="P", help="The label that is the event (binary).")
@click.option("--entity", metavar="E", help="The column that says who owns a row.")
@click.option("--timestamp", metavar="C", help="A time column inside a window.")
@click.option("--name", metavar="N", help="The loop's name. Default: the folder's.")
@click.option("--windows", metavar="URL", help="Where the windows lie, if not in DIR: s3://bucket/prefix.")
@click.option("--labels", metavar="URL", help="Where their labels lie, if not in DIR/labels.")
@click.option("--schema", "only_schema", is_flag=True, help="Write only schema.yaml, for the loop.toml that is there.")
@click.option("--force", is_flag=True, help="Replace a loop.toml (with --schema: a schema.yaml) that is there.")
def init(
    folder: Path, force: bool, only_schema: bool, name: str | None, target: str | None, **given: str | None
) -> None:
    """Look at the windows in DIR and write a commented loop.toml, and what their rows look like to schema.yaml.

    Windows are files such as DIR/windows/2024-01.csv (or right in DIR), or a folder of tables each.

    \b
    Examples:
      driftloop init my-loop --target churned
      driftloop init my-loop --windows s3://bucket/windows --labels s3://bucket/labels
      driftloop init bank --target y --positive yes
      driftloop init bank --schema --force
    """
    from driftloop import contract, draft, frame

    if only_schema:
        _only_schema(folder, force, [name, target, *given.values()])
        return
    file = folder / "loop.toml"
    if given["windows"]:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise ContractError(f"{folder} is not a folder. Put your windows into {folder}/windows/ and run again.")
    if file.exists() and not force:
        raise ContractError(f"{file} is there already; edit it, or replace it with --force.")
    place = {"entity": given["entity"], "path": given["windows"], "labels": given["labels"]}
    seen = draft.survey(folder, target=target, **place)
    if seen.target is None and sys.stdin.isatty():
        columns = click.Choice([str(c) for c in seen.rows.columns])
        seen = draft.survey(folder, target=click.prompt("Which column is to be predicted?", type=columns), **place)
    drawn = draft.infer(
        seen.rows,
        seen.later,
        name=name or draft.loop_name(folder),
        path=seen.path,
        labels=seen.labels,
        target=seen.target,
        task=given["task"],
        positive=draft.spelled(given["positive"]) if given["positive"] is not None else None,
        entity=seen.entity,
        timestamp=given["timestamp"],
    )
    try:
        loop = contract.parse(drawn.toml)
        frame.target(seen.rows[loop.target], loop)
        if loop.timestamp:
            frame.times(seen.rows[loop.timestamp], loop.timestamp)
    except ValueError as error:
        asked = {"target": target, **{role: given[role] for role in ("task", "positive", "entity", "timestamp")}}
        told = ", ".join(f"--{role} {value}" for role, value in asked.items() if value is not None)
        raise ContractError(f"{folder} makes no loop{f' with {told}' if told else ''}: {error}.") from None
    try:
        file.write_text(drawn.toml, encoding="utf-8")
    except OSError as error:
        raise ContractError(f"{file} cannot be written: {error.strerror}.") from None
    rules = folder / "schema.yaml"
    anew = f"Kept {rules} as it is; to learn it anew: {command('init', folder, '--schema', '--force')}\n"
    schema = anew if rules.exists() else _learnt(folder, rules)
    small = f"{drawn.small}; see [trigger] there.\n" if drawn.small else ""
    click.echo(
        f"Wrote {file}: {drawn.task} loop {drawn.name!r} on {drawn.target!r}, {len(drawn.features.numeric)} numeric "
        f"and {len(drawn.features.categorical)} categorical features, holdout by {drawn.holdout}, "
        f"{len(seen.ids)} windows.\n{_ownerless(seen.rows, drawn.entity)}{small}{schema}"
        f"Read it through, then: {command('check', folder)}"
    )


def _only_schema(folder: Path, force: bool, given: list[str | None]) -> None:
    if any(value is not None for value in given):
        raise click.UsageError(
            "--schema takes the loop from loop.toml; of the other options it goes with --force only."
        )
    file = folder / "schema.yaml"
    if file.exists() and not force:
        raise ContractError(f"{file} is there already; edit it, or learn it anew with --force.")
    click.echo(_learnt(folder, file), nl=False)


def _learnt(folder: Path, file: Path) -> str:
    """Learn what rows look like and write it down; what was done, as a line."""
    from driftloop import draft, reading, schema_draft
    from driftloop.windows import open_windows

    loop = draft.resolved(folder)
    learnt = schema_draft.learn(reading.usable(open_windows(loop, folder, options.settings()), loop), loop)
    if not learnt.windows:
        return f"Wrote no {file}: no window can be used yet. Once one can: {command('init', folder, '--schema')}\n"
    try:
        file.write_text(learnt.text, encoding="utf-8")
    except OSError as error:
        raise ContractError(f"{file} cannot be written: {error.strerror}.") from None
    known = f"{sum(learnt.counts):,} rows of {len(learnt.windows)} windows"
    return f"Wrote {file}: what rows look like, learnt from {known}.\n"


def _ownerless(rows: pd.DataFrame, entity: str | None) -> str:
    from driftloop.draft import is_id

    passed_by = [str(name) for name in rows if is_id(name)] if entity is None else []
    reason = f"No one owns a row: {', '.join(passed_by)} repeats or holds nulls. If it should, name it with --entity.\n"
    return reason if passed_by else ""
