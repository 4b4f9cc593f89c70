"""python -m services.api: the API of one loop, configured by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import click

from driftloop.settings import Settings
from services.api.serving import serve


@click.command()
@click.option("--loop", "loop_name", metavar="NAME", envvar="DRIFTLOOP_LOOP", required=True, help="The loop's name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option(
    "--poll",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0.05),
    help="Seconds between looks at the alias.",
)
def main(loop_name: str, host: str, port: int, poll: float) -> None:
    """Serve the champion of a loop; DRIFTLOOP_HOME and MLFLOW_TRACKING_URI say where it is found."""
    serve(Settings.from_env(os.environ, Path.cwd()), loop_name, host, port, poll)


if __name__ == "__main__":
    main()
