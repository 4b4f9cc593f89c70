"""driftloop keeps a tabular model in production fresh."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftloop.workspace import Workspace

__version__ = "0.1.0"


def open(folder: str | Path, home: str | Path | None = None) -> Workspace:  # noqa: A001  # as driftloop.open
    """The loop in ``folder`` with its windows, ledger and registry, for a notebook.

    Its state is kept in ``home``, else where the commands keep it.
    """
    from driftloop.settings import Settings, apply_defaults
    from driftloop.workspace import open_workspace

    apply_defaults(os.environ)
    given = {} if home is None else {"DRIFTLOOP_HOME": str(home)}
    return open_workspace(Path(folder), Settings.from_env(os.environ | given, Path.cwd()))
