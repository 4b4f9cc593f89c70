"""The story of `driftloop demo`: months arrive, the loop answers, the API swaps without a restart."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from driftloop import artifact, contract, generator
from driftloop.cli.children import Child, Children, children
from driftloop.cli.render import months_table, out
from driftloop.errors import DriftloopError
from driftloop.ledger import loops
from driftloop.metrics import written
from driftloop.settings import Settings

SWAP_SECONDS = 60
MARKER = ".demo"  # a file in a state folder that a demo made


@dataclass(frozen=True)
class Answer:
    """What the API said to the demo's one request."""

    version: str
    probability: float


def play(folder: Path, settings: Settings) -> int:
    """Run the demo on local state only, whatever servers the environment names; returns the exit code."""
    began = time.monotonic()
    settings = Settings.from_env({"DRIFTLOOP_HOME": str(settings.home)}, Path.cwd())
    _start_anew(folder, settings)
    os.environ.pop("PREFECT_API_URL", None)
    os.environ.update(settings.environment())
    console = out()
    console.print("[bold]driftloop demo[/]: twelve months of a streaming service's customers, who will churn?\n")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with children() as group, Progress(*columns, console=console, transient=True) as progress:
        reports = _months(folder, settings, group, progress)
    console.print(months_table(reports))
    _next_steps(console, folder, time.monotonic() - began)
    return 0


def _months(folder: Path, settings: Settings, group: Children, progress: Progress) -> list[dict[str, Any]]:
    from flows.local import prefect_at_hand
    from flows.server import free_port

    plan = generator.load(folder)
    bar = progress.add_task("starting Prefect, MLflow and the API", total=len(plan.ids()))
    loop = contract.load(folder).name
    api = _api(folder, settings, free_port())
    reports: list[dict[str, Any]] = []
    answer: Answer | None = None
    with prefect_at_hand(settings) as prefect:
        prefect.connect()
        from prefect import tags

        from flows.monitor_flow import monitor_flow

        group.start(api)
        for delivery in generator.deliveries(plan):
            progress.update(bar, description=f"{delivery.window} arrives")
            delivery.write(folder)
            with tags("driftloop", loop):
                reports.append(monitor_flow(folder, delivery.window))
            progress.console.print(_line(reports[-1]))
            if (reports[-1]["decision"] or {}).get("outcome") == "promote":
                answer = _same_request(group, api, settings, reports[-1], answer, progress)
            progress.advance(bar)
    return reports


def _same_request(
    group: Children, api: Child, settings: Settings, report: dict[str, Any], before: Answer | None, progress: Progress
) -> Answer:
    """Ask the running API the same question until the new champion answers it."""
    assert api.health is not None, "the demo's API has an address"
    group.wait_ready(api.name)
    version, row = report["champion"]["version"], _question(settings, report["loop"])
    promoted = time.monotonic()
    while (now := _ask(api.health.removesuffix("/ready"), row)).version != version:
        if time.monotonic() - promoted > SWAP_SECONDS:
            raise DriftloopError(
                f"the API still serves version {now.version} a minute after the promotion; see {api.log}."
            )
        time.sleep(0.1)
    was = f"version {before.version} said {before.probability:.3f}, " if before else ""
    progress.console.print(
        f"           [cyan]the API, never restarted: the same customer's churn probability, {was}"
        f"version {now.version} says {now.probability:.3f}[/]"
    )
    return now


def _question(settings: Settings, loop: str) -> dict[str, Any]:
    """One customer, the same in every month: a sample row stored on the first version."""
    folder = next((settings.home / "models" / loop / "1").rglob("MLmodel"), None)
    if folder is None:
        from driftloop.registry import Registry

        return dict(
            artifact.load(Registry(settings, loop).download("1", settings.home / "models" / loop / "1")).facts.sample[0]
        )
    return dict(artifact.load(folder.parent).facts.sample[0])


def _ask(base: str, row: dict[str, Any]) -> Answer:
    request = urllib.request.Request(
        f"{base}/predict", json.dumps(row).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        body = json.load(response)
    return Answer(body["version"], body["probability"])


def _api(folder: Path, settings: Settings, port: int) -> Child:
    command = [sys.executable, "-W", "ignore", "-m", "driftloop.cli", "serve", str(folder.absolute())]
    command += ["--port", str(port), "--poll", "0.5"]
    return Child(
        "API", command, f"http://127.0.0.1:{port}/ready", settings.home / "logs" / "api.log", settings.environment()
    )


def _start_anew(folder: Path, settings: Settings) -> None:
    """Remove what an earlier demo made, and nothing else. Raises DriftloopError when other loops live in the home."""
    home = settings.home
    if home.exists() and any(home.iterdir()):
        others = set(loops(settings.ledger_url)) - {contract.load(folder).name}
        if others or not (home / MARKER).exists():
            raise DriftloopError(
                f"{home} holds the state of {', '.join(sorted(others)) or 'your own runs'}, which the demo would mix "
                f"with its own. Run it apart: DRIFTLOOP_HOME=.driftloop-demo driftloop demo."
            )
        shutil.rmtree(home)
    _remove_windows(folder, generator.load(folder).ids())
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()


def _remove_windows(folder: Path, made: Sequence[str]) -> None:
    """Remove the months an earlier demo delivered. Raises DriftloopError when there are others beside them."""
    for place in (folder / "windows", folder / "labels"):
        if own := sorted(f.name for f in place.glob("[!.]*") if f.stem not in made):
            raise DriftloopError(
                f"{place} holds {', '.join(own[:3])}, which the generator did not make and the demo would monitor. "
                f"Move them elsewhere, or run the demo on another folder."
            )
        shutil.rmtree(place, ignore_errors=True)


def _line(report: dict[str, Any]) -> str:
    drift, decision = report["drift"], report["decision"]
    share = f"drift share {drift['share']:.3f}, " if drift else ""
    outcome = ""
    if decision:
        against = "" if decision["champion"] is None else f" against {written(decision['champion'])}"
        scores = f"val_{decision['metric']} {written(decision['candidate'])}{against}"
        outcome = f" → {decision['outcome']}: {decision['reason']} ({scores})"
    return f"  {report['window']}  {share}{report['retrain']['reason']}{outcome}"


def _next_steps(console: Console, folder: Path, seconds: float) -> None:
    driftloop = "driftloop" if shutil.which("driftloop") else _relative(Path(sys.argv[0]).absolute())
    console.print(f"Took {seconds:.0f} s. Next:\n")
    for command, what in (
        (f"status {_relative(folder)}", "who is champion, what was monitored"),
        (f"history {_relative(folder)}", "every verdict and decision with its reason"),
        (f"up {_relative(folder)}", "Prefect, MLflow, API and dashboard in the browser"),
        ("init my-loop", "your own data: put windows into my-loop/windows/ first"),
    ):
        console.print(f"  {driftloop} {command}  [dim]# {what}[/]", highlight=False, soft_wrap=True)


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
