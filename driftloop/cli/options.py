"""What commands share: the loop's folder, --json, and the settings of this process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from driftloop.settings import Settings

loop_dir = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts instead of text.")
window = click.option("--window", metavar="W", help="Window id, e.g. 2024-03. Default: the newest.")
force = click.option("--force", is_flag=True, help="Run although nothing changed since the last run.")


def settings() -> Settings:
    return Settings.from_env(os.environ, Path.cwd())


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
