"""What the ledger and the registry hold of a loop, as tables and sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from driftloop.cli.render import answers, columns, number, out, span, target
from driftloop.entry import Entry, Kind
from driftloop.errors import command
from driftloop.metrics import written
from driftloop.reigns import Reign, reigns
from driftloop.report import said

Json = dict[str, Any]


def status(found: Json, folder: Path, ledger: str) -> None:
    console, champion = out(), found["champion"]
    if champion:
        scores = ", ".join(_beside_baseline(champion["metrics"]))
        console.print(
            f"[bold]{escape(found['loop'])}[/]: champion version {champion['version']} since {champion['since']} "
            f"({champion['reason']}), trained on {span(champion['trained_on'])}; {scores}"
        )
    else:
        console.print(f"[bold]{escape(found['loop'])}[/] has no champion yet, says the ledger at {ledger}.")
    if asked := found["challenger"]:
        console.print(
            f"[bold]Version {asked['version']} waits for approval[/] since {asked['since']} ({asked['reason']}). Next: "
            f"{escape(command('approve', folder))} --by YOU (or reject)"
        )
    if last := found["last"]:
        console.print(f"Last: {last['kind']} on {last['window']}, {escape(last['reason'])}.")
    measured, labelled = found.get("measured"), found.get("labelled")
    for seen in [measured] if measured == labelled else [labelled, measured]:
        if seen:
            console.print(f"On {seen['window']}:")
            for sentence in answers(seen):
                console.print(f"  {sentence}")
    table = Table("window", "labels", "state", box=SIMPLE_HEAD)
    for row in found["windows"]:
        table.add_row(row["window"], "in" if row["labels"] else "not in", row["state"])
    console.print(table)
    if waiting := [row["window"] for row in found["windows"] if not row["labels"]]:
        console.print(f"Waits for the labels of {span(waiting)}.")
    states = {row["window"]: row["state"] for row in found["windows"]}
    if left := [window for window, state in states.items() if state in ("new", "training unfinished")]:
        counted = Counter(states[window] for window in left)
        what = ", ".join(f"{count} {state}" for state, count in counted.items())
        which = () if left[-1] == max(states) else ("--window", left[0])
        to_type = command("monitor", folder, *which) if len(left) == 1 else command("replay", folder)
        console.print(f"{what}. Next: {escape(to_type)}")


def _beside_baseline(metrics: dict[str, float]) -> list[str]:
    """Each metric of a version with the baseline's in brackets, where there is one."""
    said = []
    for name, value in metrics.items():
        known = metrics.get(name.replace("val_", "baseline_", 1))
        if not name.startswith("baseline_"):
            said.append(f"{name} {written(value)}" + ("" if known is None else f" (baseline {written(known)})"))
    return said


def history(entries: Sequence[Entry], ledger: str) -> None:
    if not entries:
        out().print(f"The ledger at {ledger} has no row of this loop yet.")
        return
    table = Table("#", "time (UTC)", "kind", "window", "version", "actor", "reason", box=SIMPLE_HEAD)
    for e in entries:
        reason = said(e.report["retrain"]) if e.report and e.kind is Kind.VERDICT else e.reason
        table.add_row(str(e.seq), _time(e.time), e.kind, e.window, e.version or "–", escape(e.actor), escape(reason))
    out().print(table)
    if found := reigns(entries):
        table = Table("champion", "from (UTC)", "to (UTC)", "by", "on the evidence of", box=SIMPLE_HEAD)
        for reign in found:
            end = _time(reign.until) if reign.until else "now"
            table.add_row(
                f"v{reign.version}", _time(reign.since), end, escape(reign.by.actor), escape(_evidence(reign))
            )
        out().print(table)


def reign_json(reign: Reign) -> Json:
    return {
        "version": reign.version,
        "since": reign.since.isoformat(),
        "until": reign.until.isoformat() if reign.until else None,
        "window": reign.by.window,
        "by": reign.by.actor,
        "evidence": _evidence(reign),
    }


def reign_sentence(reign: Reign) -> str:
    until = f"until {_time(reign.until)}" if reign.until else "and still does"
    return f"Version {reign.version} served, since {_time(reign.since)} UTC {until}: {_evidence(reign)}."


def difference(found: Json) -> None:
    """Two versions side by side."""
    one, other = found["versions"]
    table = Table(found["loop"], f"version {one}", f"version {other}", box=SIMPLE_HEAD)
    before, after = found["data"]
    for name in before:
        table.add_row(name, *(escape(_value(name, data[name])) for data in (before, after)))
    for section in ("parameters", "recorded"):
        table.add_section()
        for name, pair in found[section].items():
            table.add_row(escape(name), *(escape(_value(name, value)) for value in pair))
    console = out()
    console.print(table)
    if found["compared"]:
        _compared(console, found["compared"])
    else:
        console.print(f"Not compared: {escape(found['not_compared'])}.")
    if found["drift"] is None:
        console.print("Both were trained on the same windows.")
        return
    drift = found["drift"]
    console.print(
        f"Drift from the windows of version {one} to those of version {other}: {drift['drifted']} of "
        f"{len(drift['columns'])} features, share {drift['share']:.3f}."
    )
    if drift["drifted"]:
        console.print(columns(drift))
    target(console, drift)


def _compared(console: Console, compared: Json) -> None:
    before, after = compared["values"]
    low = "" if compared["gain_low"] is None else f", lower bound {written(compared['gain_low'], '+')}"
    console.print(
        f"Now, on {compared['rows']:,} holdout rows of {compared['window']}: {compared['metric']} {written(before)} "
        f"and {written(after)}, gain {written(compared['gain'], '+')}{low}."
    )
    if compared["slices"]:
        table = Table("slice", "rows", "before", "after", "p (Holm)", box=SIMPLE_HEAD)
        for s in compared["slices"]:
            table.add_row(
                escape(s["name"]),
                str(s["rows"]),
                number(s["champion"]),
                number(s["candidate"]),
                f"{s['adjusted']:.3g}",
            )
        console.print(table)
    for sentence in compared["broken"]:
        console.print(f"A known case breaks: {escape(sentence)}.")


def _evidence(reign: Reign) -> str:
    entry = reign.by
    decision = (entry.report or {}).get("decision")
    if decision is None:
        return entry.reason
    own = f"{entry.reason}; {decision['metric']} {written(decision['candidate'])}"
    if decision["champion"] is None:
        return own
    low = "" if decision["gain_low"] is None else f", at least {written(decision['gain_low'], '+')}"
    return f"{own} against {written(decision['champion'])} on {decision['holdout_rows']:,} rows{low}"


def _value(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return span(value)
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and name == "rows" else str(value)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
