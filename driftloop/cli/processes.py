"""The commands that run processes: serve, up, demo."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click

from driftloop.cli import options
from driftloop.cli.options import loop_dir
from driftloop.errors import DriftloopError

PORT = click.IntRange(1, 65535)


@click.command()
@loop_dir
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=PORT, default=8000, show_default=True, help="Port to listen on.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0.05),
    default=2.0,
    show_default=True,
    help="Seconds between looks at the champion alias.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes behind the port.")
@click.option("--origin", "origins", multiple=True, help="A page elsewhere whose scripts may ask; none by default.")
@click.option("--without-keys", is_flag=True, help="Serve beyond this machine though DRIFTLOOP_API_KEYS names no key.")
def serve(
    folder: Path, host: str, port: int, poll: float, workers: int, origins: tuple[str, ...], without_keys: bool
) -> None:
    """Serve the loop's champion over HTTP; a new champion is taken over without a restart.

    Beyond this machine it asks for keys: make one with `driftloop key`.

    \b
    Examples:
      driftloop serve my-loop --port 8000
      DRIFTLOOP_API_KEYS="predict:…" driftloop serve my-loop --host 0.0.0.0 --workers 4
    """
    from driftloop.cli.children import require_free
    from services.api.serving import Address
    from services.api.serving import serve as serve_api

    require_free(port, "the API", "--port", host)
    serve_api(folder, options.settings(), Address(host, port, poll, workers, origins, without_keys))


@click.command()
@click.option("--role", type=click.Choice(["predict", "admin"]), default="predict", show_default=True)
def key(role: str) -> None:
    """Make a key for the API: the key for whoever asks, and the entry that lets it in.

    The entry is a digest, from which nobody finds the key. admin may also read /metrics.

    \b
    Examples:
      driftloop key
      driftloop key --role admin
    """
    import hashlib
    import secrets

    made = secrets.token_urlsafe(32)
    click.echo(f"key, shown once; send it as X-API-Key:   {made}")
    click.echo(f"entry, to add to DRIFTLOOP_API_KEYS:     {role}:{hashlib.sha256(made.encode()).hexdigest()}")


@click.command()
@loop_dir
@click.option("--prefect-port", type=PORT, default=4200, show_default=True)
@click.option("--mlflow-port", type=PORT, default=5000, show_default=True)
@click.option("--api-port", type=PORT, default=8000, show_default=True)
@click.option("--dashboard-port", type=PORT, default=8501, show_default=True)
@click.option("--approvals-port", type=PORT, default=8502, show_default=True)
def up(
    folder: Path, prefect_port: int, mlflow_port: int, api_port: int, dashboard_port: int, approvals_port: int
) -> None:
    """Run Prefect with the loop's schedules, the MLflow UI, the API and the dashboard until Ctrl-C.

    \b
    Example:
      driftloop up my-loop
    """
    from rich.console import Console

    from driftloop import contract
    from driftloop.cli.children import children, require_free
    from driftloop.cli.render import addresses
    from driftloop.cli.stack import Ports, stack
    from flows.local import remember_server, running_server

    loop = contract.load(folder)
    state = options.settings().home
    if running := running_server(state / "prefect"):
        raise DriftloopError(f"`driftloop up` runs already on {state}, with Prefect at {running}. End it first.")
    ports = Ports(prefect_port, mlflow_port, api_port, dashboard_port, approvals_port)
    for what, port in ports.by_name():
        require_free(port, what, f"--{what.lower()}-port")
    console = Console(stderr=True)
    with children() as group, ExitStack() as until_end:
        parts = stack(folder, options.settings(), ports)
        with console.status("starting …") as status:
            for part in parts:
                group.start(part)
                if part.name == "Prefect":  # the schedules register themselves there, so it has to answer first
                    status.update("starting Prefect …")
                    group.wait_ready(part.name)
                    until_end.enter_context(remember_server(state / "prefect", f"{ports.url('prefect')}/api"))
            for part in parts:
                status.update(f"starting {part.name} …")
                group.wait_ready(part.name)
        addresses(loop.name, ports, parts[0].log.parent)
        while (ended := group.ended()) is None:
            time.sleep(0.5)
    raise DriftloopError(f"{ended.name} ended by itself, so everything was stopped; see {ended.log}.")


@click.command()
@click.option(
    "--folder",
    "bundled",
    type=click.Path(path_type=Path, file_okay=False),
    help="The bundled loop. Default: data/streamflow.",
)
def demo(bundled: Path | None) -> None:
    """Play the whole story on the bundled loop: twelve months, drift, retraining, a promotion, a hot swap.

    Data goes to data/streamflow/, state to .driftloop/; both are made anew each time.

    \b
    Example:
      driftloop demo
    """
    from driftloop.cli.demonstration import play

    folder = bundled or Path(__file__).parents[2] / "data" / "streamflow"
    if not (folder / "generator.toml").exists():
        raise DriftloopError(f"{folder} is not the bundled loop; run from a checkout, or name it with --folder.")
    sys.exit(play(folder, options.settings()))


COMMANDS = (serve, key, up, demo)
