"""What runs found, as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from driftloop.cli.stack import Ports
from driftloop.errors import command
from driftloop.metrics import written
from driftloop.report import said, validated

Json = dict[str, Any]


def out() -> Console:
    """Standard output; where it is no terminal, wide enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=130)


def progress_console() -> Console:
    """Progress goes to standard error, so that standard output stays what was asked for."""
    return Console(stderr=True)


def window(report: Json, folder: Path) -> None:
    """One monitored window: drift by column when there was any, verdict, decision."""
    console = out()
    console.print(f"[bold]{escape(report['loop'])}[/] {report['window']}: {_verdict(report)}")
    if report.get("repeated"):
        console.print(
            f"Nothing to do: same data, loop.toml and champion as in ledger row {report['repeated']} (--force runs it)."
        )
    if report["drift"] and report["drift"]["drifted"]:
        console.print(columns(report["drift"]))
    target(console, report["drift"])
    _quality(console, report.get("quality"))
    _prediction(console, report["drift"])
    if (found := report.get("validation")) and found["checks"]:
        where = f", kept in {found['file']}" if "file" in found else ""
        console.print(f"schema.yaml: {validated(found)}{escape(where)}.")
    for sentence in answers(report):
        console.print(sentence)
    if report["decision"]:
        training(report, folder)


def training(result: Json, folder: Path) -> None:
    """What a training came to."""
    t, d = result["training"], result["decision"]
    console = out()
    if t.get("contest"):
        _contest(console, t["contest"])
    if found := t.get("search"):
        _search(console, found)
    console.print(
        f"Version {t['version']} was {_made(t)} on {t['rows']:,} rows of {span(t['windows'])}{_new(t)}{_worth(t)}."
    )
    if t.get("note"):
        console.print(f"  Strategy {t['strategy']}: {escape(t['note'])}.")
    console.print(f"[bold]{d['outcome']}[/]: {d['reason']}{_numbers(d)}")
    for sentence in because(d):
        console.print(f"  {escape(sentence)}")
    if d["outcome"] == "ask":
        console.print(f"It waits for approval. Next: {escape(command('approve', folder))} --by YOU (or reject)")
    console.print(f"Champion: version {(result['champion'] or {}).get('version', 'none')}.")


def _search(console: Console, found: Json) -> None:
    best = "none came to its end" if found["best"] is None else f"{found['metric']} {written(found['best'])} on folds"
    chosen = ", ".join(f"{name} = {value}" for name, value in found["params"].items())
    console.print(
        f"Search: {found['trials']} trials in {found['seconds']:.0f} s, best {best} (optimistic, no part of the "
        f"comparison){f': {escape(chosen)}' if chosen else ''}."
    )


def _made(t: Json) -> str:
    return f"fine-tuned from version {t['tuned_from']}" if t.get("tuned_from") else "trained"


def _new(t: Json) -> str:
    return "" if t.get("new_rows") is None else f", {t['new_rows']:,} of them new"


def _worth(t: Json) -> str:
    weighted = t.get("effective_rows")
    return "" if weighted is None else f", weighted: worth {weighted:,.0f} of equal weight"


def _contest(console: Console, found: Json) -> None:
    if not found["trials"]:
        console.print(f"No contest, the first way is taken: {escape(found['why'])}.")
        return
    table = Table("estimator", "strategy", "rows", found["metric"], "gain over first", "seconds", box=SIMPLE_HEAD)
    for t in found["trials"]:
        gain = "–" if t["gain"] is None else f"{t['gain']:+.3f}"
        table.add_row(
            t["estimator"], t["strategy"], _count(t["rows"]), number(t["score"]), gain, f"{t['seconds']:.1f}",
            style="green" if t["chosen"] else "",
        )  # fmt: skip
    console.print(table)
    winner = next(t for t in found["trials"] if t["chosen"])
    console.print(
        f"{winner['estimator']} by {winner['strategy']} is taken, of {len(found['trials'])} tried on {found['rows']:,} "
        f"validation rows of {found['window']}: {escape(found['why'])}."
    )


def models(found: Json) -> None:
    """An old model beside new ones, a metric a column; the best on the window's holdout stands out."""
    rows, metric = found["models"], found["metric"]
    names = [metric, *(name for name in rows[0]["metrics"] if name != metric)]
    table = Table(title=found["loop"], title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "estimator", "learnt from", "rows", "scored on"):
        table.add_column(name, justify="right" if name == "rows" else "left")
    for name in (*names, "seconds"):
        table.add_column(name, justify="right")
    here = [row["metrics"][metric] for row in rows if row["holdout"] == found["window"]]
    best = max(here) if found["higher_is_better"] else min(here)
    for row in rows:
        values = (_metric(row["metrics"].get(name)) for name in names)
        won = row["holdout"] == found["window"] and row["metrics"][metric] == best
        table.add_row(
            row["model"], row["estimator"], span(row["windows"]), _count(row["rows"]), row["holdout"], *values,
            f"{row['seconds']:.1f}", style="green" if won else "",
        )  # fmt: skip
    console = out()
    console.print(table)
    last = rows[-1]
    console.print(f"Scored on holdout rows, which no model learns from: {last['holdout_rows']:,} of {found['window']}.")
    for row in rows:
        if row["note"]:
            console.print(f"{row['model']} ({row['estimator']}): {escape(row['note'])}.")
        if row["new_rows"] is not None:
            console.print(f"{row['model']} ({row['estimator']}): {row['new_rows']:,} of its rows are new to it.")
        if row["effective_rows"] is not None:
            console.print(
                f"{row['model']} ({row['estimator']}): worth {row['effective_rows']:,.0f} rows of equal weight."
            )


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def live(report: Json) -> None:
    """The last requests beside what the champion was trained on."""
    console, drift = out(), report["drift"]
    console.print(
        f"[bold]{escape(report['loop'])}[/], the last {report['rows']:,} rows, {report['since']} to {report['until']}, "
        f"against version {report['version']}: drift share {drift['share']:.3f}, limit {drift['threshold']:g}."
    )
    if drift["drifted"]:
        console.print(columns(drift))
    if report["means"] is None:
        console.print(f"Means are not compared: no statistics stored on version {report['version']}.")
        return
    table = Table("mean of", "now", "in training", f"z, limit {report['z_limit']:.2f}", box=SIMPLE_HEAD)
    for mean in report["means"]:
        table.add_row(escape(mean["name"]), *_mean(mean), style="red" if mean["moved"] else "")
    console.print(table)


def months(reports: Sequence[Json]) -> None:
    """The table at the end of a replay: a row a window."""
    out().print(months_table(reports))


def months_table(reports: Sequence[Json]) -> Table:
    metric = next((r["decision"]["metric"] for r in reports if r["decision"]), "metric")
    table = Table(title=reports[0]["loop"] if reports else None, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("window", no_wrap=True)
    table.add_column("drift share", justify="right")
    table.add_column("verdict")
    for name in ("candidate", "champion"):
        table.add_column(f"{name} val_{metric}", justify="right")
    table.add_column("decision")
    table.add_column("serving", justify="right")
    for report in reports:
        drift, decision = report["drift"], report["decision"] or {}
        table.add_row(
            report["window"],
            f"{drift['share']:.3f}" if drift else "–",
            report["retrain"]["reason"] + ", performance fell" * _unheeded(report),
            number(decision.get("candidate")),
            number(decision.get("champion")),
            f"{decision['outcome']}: {decision['reason']}" if decision else "–",
            f"v{report['champion']['version']}" if report["champion"] else "–",
            style="green" if decision.get("outcome") == "promote" else "red" if "quarantine" in report else "",
        )
    return table


def checked(loop: str, found: Sequence[Json]) -> None:
    table = Table(title=loop, title_justify="left", box=SIMPLE_HEAD)
    for name, justify in (("window", "left"), ("rows", "right"), ("labelled", "right"), ("findings", "left")):
        table.add_column(name, justify=justify, no_wrap=name == "window")  # type: ignore[arg-type]
    for row in found:
        findings = (
            [f"[red]{escape(p)}[/]" for p in row["problems"]] + _validated(row) + [escape(n) for n in row["notes"]]
        )
        table.add_row(row["window"], _count(row["rows"]), _count(row["labelled"]), "\n".join(findings) or "ok")
    out().print(table)


def _validated(row: Json) -> list[str]:
    """What schema.yaml says of a window that goes on, or goes no further: its problems say the rest."""
    broken = (row.get("validation") or {}).get("checks", [])
    errors = [
        f"[red]error: {escape(b['sentence'])}[/]" for b in broken if b["level"] == "error" and not row["problems"]
    ]
    return errors + [f"[yellow]warning: {escape(b['sentence'])}[/]" for b in broken if b["level"] == "warning"]


def addresses(loop: str, ports: Ports, logs: Path) -> None:
    """Where the parts of `driftloop up` are found."""
    table = Table("part", "address", "for", box=SIMPLE_HEAD)
    table.add_row("Dashboard", ports.url("dashboard"), "the loop at a glance")
    table.add_row("Prefect", ports.url("prefect"), "runs, schedules, artifacts")
    table.add_row("MLflow", ports.url("mlflow"), "trainings, versions, aliases")
    table.add_row("API", f"{ports.url('api')}/docs", f"predictions by the champion of {loop}")
    out().print(table)
    out().print(f"Logs are in {logs}. Ctrl-C ends everything.")


def _verdict(report: Json) -> str:
    drift = report["drift"]
    share = f"drift share {drift['share']:.3f} against {drift['threshold']}, " if drift else ""
    return f"{share}{escape(said(report['retrain']))}{_other(report)}"


def _other(report: Json) -> str:
    """What the trigger judged, where that is not the drift of the report."""
    trigger, drift = report["retrain"].get("trigger"), report["drift"]
    if trigger is None or drift is None or (trigger["drift"] is None and trigger["share"] == drift["share"]):
        return ""
    against = f" against {span(trigger['reference'])}" if trigger["drift"] else ""
    return f" (share that counts{against}: {trigger['share']:.3f})"


def columns(drift: Json) -> Table:
    table = Table("drifted column", "method", "score", "threshold", box=SIMPLE_HEAD)
    means = {mean["name"]: mean for mean in drift.get("means", ())}
    for name in ("mean", "in training", "z") if means else ():
        table.add_column(name, justify="right")
    for column in drift["columns"]:
        if column["drifted"]:
            mean = _mean(means.get(column["name"])) if means else ()
            table.add_row(
                escape(column["name"]), column["method"], f"{column['score']:.4f}", f"{column['threshold']:g}", *mean
            )
    return table


def _mean(mean: Json | None) -> tuple[str, str, str]:
    """A mean now, in training, and its z; dashes for a category, which has none."""
    if mean is None:
        return "–", "–", "–"
    z = "one value in training" if mean["z"] is None else f"{mean['z']:+.2f}"
    return f"{mean['mean']:.5g}", f"{mean['trained_mean']:.5g}", z


def target(console: Console, drift: Json | None) -> None:
    """The target's own drift, where labels are in."""
    if found := (drift or {}).get("target"):
        console.print(f"The target {escape(found['name'])} {_drifted(found)}; it is not counted in the share.")


def _prediction(console: Console, drift: Json | None) -> None:
    """The drift of the champion's answers since its holdout, where it kept those."""
    if found := (drift or {}).get("prediction"):
        console.print(f"The champion's answers {_drifted(found)}; they are no feature and not counted.")


def _drifted(found: Json) -> str:
    drifted = "drifted" if found["drifted"] else "did not drift"
    return f"{drifted}: {found['method']} {found['score']:.4f}, threshold {found['threshold']:g}"


def _quality(console: Console, quality: Json | None) -> None:
    """The columns whose nulls, unseen categories or numbers outside the range are more than chance explains."""
    if not (quality and quality["moved"]):
        return
    table = Table("data quality moved", "nulls", "in reference", "unseen categories", "outside range", box=SIMPLE_HEAD)
    for column in quality["columns"]:
        if column["moved"]:
            shares = (column[name] for name in ("nulls", "reference_nulls", "unseen", "outside"))
            table.add_row(escape(column["name"]), *("–" if share is None else f"{share:.2%}" for share in shares))
    console.print(table)


def answers(report: Json) -> list[str]:
    """The champion's metric on a window's labels, and what it would be without any."""
    said = []
    if p := report["performance"]:
        said.append(
            f"The champion's {p['metric']} on the {p['rows']:,} labelled rows of this window: {written(p['value'])}"
            f"{_drop(p)}."
        )
        if _unheeded(report):
            said.append(
                "Nothing trains on that: trigger.on in loop.toml does not name performance. `driftloop train` does now."
            )
    if e := report.get("estimated"):
        said.append(
            f"Its {e['metric']} estimated without labels, by {e['method']}: {written(e['value'])} "
            f"({written(e['low'])} to {written(e['high'])}){_drop(e)}."
        )
    return said


def _unheeded(report: Json) -> bool:
    """Whether the champion is surely worse than at promotion, and no training starts since the trigger does not ask."""
    found, retrain = report["performance"] or {}, report.get("retrain") or {}
    trigger = None if retrain.get("retrain") else retrain.get("trigger")
    return bool(trigger and (found.get("drop_low") or 0) > 0 and "performance" not in trigger["measured"])


def _drop(found: Json) -> str:
    """How much worse than at promotion, and how much of that is sure."""
    drop, low = found.get("drop"), found.get("drop_low")
    if drop is None:
        return ""
    said = f", {written(abs(drop))} {'worse' if drop >= 0 else 'better'} than at promotion"
    if low is None or drop <= 0:
        return said
    return f"{said}, surely {written(low)}" if low > 0 else f"{said}, which may be chance"


def because(decision: Json) -> list[str]:
    """What lies behind the reason, and the smallest gain that these rows would show."""
    from driftloop.report import decision_of

    said = list(decision_of(decision).because)
    slices = decision["slices"]
    if slices["judged"] or slices["unjudged"]:
        small = f"; {len(slices['unjudged'])} too small to judge" * bool(slices["unjudged"])
        worse = sum(s["worse"] for s in slices["judged"])
        said.append(f"Slices: {len(slices['judged'])} judged, {worse or 'none'} significantly worse{small}.")
    if decision["detectable"] is not None:
        said.append(
            f"A true gain of {written(decision['detectable'])} would be found four times in five on these rows."
        )
    return said


def _numbers(decision: Json) -> str:
    if decision["champion"] is None:
        return f"; {decision['metric']} {written(decision['candidate'])} on {decision['holdout_rows']:,} holdout rows"
    low = "" if decision["gain_low"] is None else f", lower bound {written(decision['gain_low'], '+')}"
    return (
        f"; {decision['metric']} {written(decision['candidate'])} against {written(decision['champion'])} on "
        f"{decision['holdout_rows']:,} holdout rows, gain {written(decision['gain'], '+')} "
        f"(delta {decision['delta']}){low}"
    )


def span(windows: Sequence[str]) -> str:
    return windows[0] if len(windows) == 1 else f"{windows[0]} to {windows[-1]}"


def number(value: float | None) -> str:
    return "–" if value is None else written(value)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
