"""The commands about what production saw: monitor --live, and feedback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driftloop.cli import options
from driftloop.cli.options import as_json, loop_dir, print_json
from driftloop.errors import ContractError, NotInRegistry, Unreachable, WindowError

if TYPE_CHECKING:
    import pandas as pd

    from driftloop.contract import Loop

LAST = 1000


def look(folder: Path, last: int, as_json: bool) -> None:
    """`driftloop monitor --live`: ends with exit code 1, and an alert, where the last requests drift."""
    from driftloop.cli import render
    from driftloop.cli.answering import opened

    with opened(folder, f"comparing the last {last:,} rows of the prediction log") as work:
        from driftloop import alerts, drift_worker
        from driftloop.live_look import live_look, require_store

        store = require_store(work.loop, work.settings)
        drift_worker.start()
        try:
            report = live_look(work, store, last)
        finally:
            drift_worker.stop()
        if not report["quiet"]:
            alerts.send(alerts.live_drift(work.loop.name, report["reasons"]), alerts.addresses(work.loop, os.environ))
    print_json(report) if as_json else render.live(report)
    if not report["quiet"]:
        click.echo(
            f"The last requests are not what version {report['version']} was trained on: "
            f"{'; '.join(report['reasons'])}.",
            err=True,
        )
        sys.exit(1)


@click.command()
@loop_dir
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@as_json
def feedback(folder: Path, file: Path, as_json: bool) -> None:
    """Take labels into the prediction log: FILE has the columns request_id and label.

    A row of a request with several is named by a column row, counted from 0. A label given again replaces the one
    before. Rows without a label are passed over.

    \b
    Example:
      driftloop feedback my-loop labels.csv
    """
    from driftloop import contract
    from driftloop.live_look import require_store

    loop = contract.load(folder)
    store = require_store(loop, options.settings())
    table, empty = _label_table(file, loop)
    if loop.task != "regression":
        _require_known(table["label"], file, folder)
    labels = [(str(i), int(row), _plain(label)) for i, row, label in table.itertuples(index=False)]
    unknown = store.label(labels)
    report: dict[str, Any] = {"loop": loop.name, "labels": len(labels), "unknown": unknown, "without_label": empty}
    if as_json:
        print_json(report)
        return
    click.echo(f"{len(labels)} labels taken in.")
    if unknown:
        click.echo(f"{unknown} name a row that is not in the log; they count when it is shipped.", err=True)
    if empty:
        click.echo(f"{empty} rows held no label and were passed over.", err=True)


def _label_table(file: Path, loop: Loop) -> tuple[pd.DataFrame, int]:
    """(columns request_id, row, label; how many rows held no label). Raises ContractError."""
    import numpy as np
    import pandas as pd
    import pyarrow.fs

    from driftloop import frame
    from driftloop.tables import read_table

    files = pyarrow.fs.LocalFileSystem()
    try:
        table = read_table(file.name, files, files.get_file_info(str(file)), "request_id")
    except WindowError as error:
        raise ContractError(f"{'; '.join(error.problems)}.") from None
    if missing := [name for name in ("request_id", "label") if name not in table]:
        raise ContractError(f"{file} has no column {' and no column '.join(missing)}.")
    rows = pd.to_numeric(table["row"], errors="coerce") if "row" in table else 0
    table = table.assign(row=rows)[["request_id", "row", "label"]]
    given = table[table["label"].notna()]
    problems = []
    if given["request_id"].isna().any():
        problems.append("holds a null request_id")
    if not ((given["row"] >= 0) & (given["row"] % 1 == 0)).all():
        problems.append("holds a row that is no whole number from 0")
    if twice := int(given.duplicated(["request_id", "row"]).sum()):
        problems.append(f"labels {twice} rows more than once")
    try:
        if np.isinf(frame.target(given["label"], loop)).any():
            problems.append("holds infinite labels")
    except ValueError as error:
        problems.append(f"cannot be taken for labels: {error}")
    if problems:
        raise ContractError(f"{file} {'; '.join(problems)}.")
    return given, len(table) - len(given)


def _require_known(labels: pd.Series, file: Path, folder: Path) -> None:
    """Raise ContractError for a label that the champion never learnt, where it can be asked, as POST /feedback does."""
    from driftloop.compiled import read_facts
    from driftloop.frame import categories
    from driftloop.workspace import open_workspace

    try:
        work = open_workspace(folder, options.settings())
        version = work.ledger.champion()
        if version is None:
            return
        place = work.registry.download(version, work.settings.home / "models" / work.loop.name / version)
    except (Unreachable, NotInRegistry) as error:  # the log can take labels without MLflow
        click.echo(f"Noted: nobody looked whether the champion knows these labels. {error}", err=True)
        return
    known = read_facts(place).labels
    if known and (strange := sorted(set(categories(labels)) - set(known))):
        raise ContractError(f"{file} holds the label {', '.join(strange)}: expected {' or '.join(known)}.")


def _plain(label: Any) -> Any:
    """Numbers and truth values of numpy as Python's own."""
    return label.item() if hasattr(label, "item") else label


COMMANDS = (feedback,)
