"""Empty databases whose tables are made: MLflow's and Prefect's migrations cost seconds in every new state folder.

`make setup` makes them once for the installed versions (``python -m driftloop.cli.blank``). Where there is none, the
library migrates as it always does.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4


def kept(library: str) -> Path:
    """Where the blank database of the installed version of a library is kept."""
    return Path(sys.prefix) / "share" / "driftloop" / f"{library}-{version(library)}.db"


def provide(library: str, file: Path) -> None:
    """Put a blank database at ``file``, unless one is there already; make its folder at least, where none was made."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    if not kept(library).exists():
        return
    copy = file.with_name(f".{file.name}.{uuid4().hex}")
    shutil.copy(kept(library), copy)
    try:
        os.link(copy, file)  # unlike a rename this never replaces what another process just put there
    except FileExistsError:
        pass
    finally:
        copy.unlink()
