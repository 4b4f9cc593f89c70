"""Drift of one column at a time, exactly as Evidently's default tests have it, at any number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from driftloop.retrain import ColumnDrift


@dataclass(frozen=True)
class Column:
    """What is asked of a column: its kind, and what [drift.columns] sets in place of Evidently's test and threshold."""

    name: str
    numeric: bool
    test: str | None = None
    threshold: float | None = None


class Side(Protocol):
    """The rows of one side of a comparison. It pickles, so that a worker elsewhere reads its columns itself."""

    def batches(self, column: Column) -> Iterator[npt.NDArray[Any]]:
        """The column in pieces: float64 with NaN for a null, or category strings as ``frame.categories`` has them."""
        ...


@dataclass(frozen=True)
class Summary:
    """A column as all tests need it: its distinct values sorted, how often each occurs, and how many are null."""

    values: npt.NDArray[Any]
    counts: npt.NDArray[np.int64]
    nulls: int


def summarise(side: Side, column: Column) -> Summary:
    """Read a column of one side."""
    raise NotImplementedError


def compare(reference: Summary, current: Summary, column: Column) -> ColumnDrift:
    """Evidently's verdict on two summaries of a column."""
    raise NotImplementedError


def measure(reference: Side, current: Side, columns: Sequence[Column], threads: int = 1) -> tuple[ColumnDrift, ...]:
    """Compare every column, ``threads`` at a time."""
    raise NotImplementedError
