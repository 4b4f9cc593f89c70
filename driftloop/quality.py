"""Data quality of a window beside the reference: nulls, unknown categories, numbers outside the range. Pure."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc

from driftloop.category import MISSING
from driftloop.columnar import Column, Summary
from driftloop.live import FALSE_ALARM
from driftloop.retrain import ROUNDING, ColumnQuality

MARGIN = 0.01  # a share has to differ by more than this, however surely it differs
TAILS = 3  # of a column: nulls rose, nulls fell, unseen or outside rose


def column_quality(reference: Summary, current: Summary, column: Column, columns: int) -> ColumnQuality:
    """One column's shares, each of all rows of its side; ``columns``: how many are judged with it.

    A null is a null and no unseen category. Raises ValueError where a side has no rows.
    """
    (nulls, rows), (reference_nulls, reference_rows) = (_nulls(side, column) for side in (current, reference))
    if not (rows and reference_rows):
        raise ValueError(f"column {column.name}: a side without rows has no shares")
    find = _outside if column.numeric else _unseen
    news, own = find(reference, current)
    limit = FALSE_ALARM / (TAILS * columns)
    moved = (
        _rose(nulls, rows, reference_nulls, reference_rows, limit)
        or _rose(reference_nulls, reference_rows, nulls, rows, limit)
        or _rose(news, rows, own, reference_rows, limit)
    )
    share = news / rows
    return ColumnQuality(
        column.name,
        nulls / rows,
        reference_nulls / reference_rows,
        unseen=None if column.numeric else share,
        outside=share if column.numeric else None,
        moved=moved,
    )


def _nulls(side: Summary, column: Column) -> tuple[int, int]:
    """How many nulls of how many rows."""
    missing = 0 if column.numeric else int(side.counts[side.values == MISSING].sum())
    return side.nulls + missing, side.rows + side.nulls


def _unseen(reference: Summary, current: Summary) -> tuple[int, int]:
    """How many values are of categories that the reference lacks, and how many of its own would be, each left out.

    The second is what chance makes of a column with a long tail: those that occur once.
    """
    known = set(reference.values.tolist()) | {MISSING}
    new = [value not in known for value in current.values.tolist()]
    once = (reference.counts == 1) & (reference.values != MISSING)
    return int(current.counts[np.array(new, dtype=bool)].sum()), int(once.sum())


def _outside(reference: Summary, current: Summary) -> tuple[int, int]:
    """How many numbers lie outside the reference's range, and how many of its own would, each left out."""
    if not (reference.rows and current.rows):
        return current.rows, 0
    least, greatest = reference.ends
    return current.beyond(least, greatest), sum(reference.occurs(end) == 1 for end in {least, greatest})


def _rose(count: int, rows: int, other: int, other_rows: int, limit: float) -> bool:
    """Whether a share is above another by more than the margin, and by more than chance explains."""
    if count / rows - other / other_rows <= MARGIN + ROUNDING:
        return False
    return chance(count, rows, other, other_rows) < limit


def chance(count: int, rows: int, other: int, other_rows: int) -> float:
    """How likely at least ``count`` of ``rows`` are where the other side, of the same share, has ``other``.

    The exact two-proportion test for rare values: given how many there are on both sides, each falls on this one with
    its part of the rows. The rarer of the two outcomes is counted. It holds at any count, where a z does not.

    >>> round(chance(5, 100, 0, 1000), 7)
    6.2e-06
    """
    total, part = count + other, rows / (rows + other_rows)
    if 2 * total > rows + other_rows:
        count, other = other_rows - other, rows - count
        total, part = count + other, 1 - part
    return float(betainc(count, total - count + 1, part)) if count else 1.0
