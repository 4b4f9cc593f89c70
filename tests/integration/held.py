"""Sides of a comparison for the workers of a cluster: light to import, and able to be caught in the act."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from driftloop.columnar import Column

PATIENCE = 60


@dataclass(frozen=True)
class Held:
    """Numbers of a seed; each read leaves the reader's process id, and that of column ``held`` waits to be let go."""

    seed: int
    folder: Path
    held: str = ""

    def batches(self, column: Column) -> Iterator[npt.NDArray[Any]]:
        (self.folder / f"{column.name}-{os.getpid()}").touch()
        deadline = time.monotonic() + PATIENCE
        while column.name == self.held and not (self.folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield np.random.default_rng([self.seed, len(column.name)]).normal(self.seed / 10, 1, 2000)

    def readers(self, column: str) -> list[int]:
        """The processes that began to read the column."""
        return [int(file.name.rpartition("-")[2]) for file in self.folder.glob(f"{column}-*")]


@dataclass(frozen=True)
class Full:
    """A side for which the reader has no room."""

    def batches(self, column: Column) -> Iterator[npt.NDArray[Any]]:
        raise OSError(28, "No space left on device")


@dataclass(frozen=True)
class Numbers:
    """A side that can be read at once."""

    def batches(self, column: Column) -> Iterator[npt.NDArray[Any]]:
        yield np.arange(3.0)
