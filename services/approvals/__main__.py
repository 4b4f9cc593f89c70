"""python -m services.approvals DIR: answers for the loop in the folder, configured by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import click
import uvicorn

from driftloop.settings import Settings, apply_defaults
from services.approvals.app import Approvals


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8502, show_default=True, help="Port to listen on.")
def main(folder: Path, host: str, port: int) -> None:
    """Answer for the candidates of one loop; DRIFTLOOP_APPROVAL_TOKEN is what an answer has to bring."""
    apply_defaults(os.environ)
    token = os.environ.get("DRIFTLOOP_APPROVAL_TOKEN") or None
    app = Approvals(folder, Settings.from_env(os.environ, Path.cwd()), token)
    uvicorn.run(app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
