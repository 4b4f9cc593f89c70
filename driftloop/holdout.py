"""The rows no model ever trains on: chosen by a rule that is the same in every window, forever."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from driftloop.contract import Loop
from driftloop.errors import ContractError, HoldoutMismatch, WindowError
from driftloop.facts import Adopted
from driftloop.frame import Window


@dataclass(frozen=True)
class HoldoutRule:
    """``by`` entity, row or time; ``column`` is the entity's or timestamp's name.

    For row it is a digest of the features' names: the rows' hashes are made of them.
    """

    loop: str
    by: str
    column: str
    share: float

    @classmethod
    def of(cls, loop: Loop) -> HoldoutRule:
        by = loop.holdout.by
        column = loop.entity if by == "entity" else loop.timestamp if by == "time" else _digest(loop.columns.names)
        assert column is not None, "the contract holds an entity or a timestamp whenever the holdout is by one"
        return cls(loop.name, by, column, loop.holdout.share)

    def __str__(self) -> str:
        """The form stored on each version.

        >>> str(HoldoutRule("churn", "entity", "user_id", 0.2))
        'entity(user_id) share=0.2 seed=churn'
        """
        return f"{self.by}({self.column}) share={self.share} seed={self.loop}"

    def mask(self, window: Window, *, newest: bool) -> np.ndarray:
        """Which rows of the window are holdout, bool of shape (rows,).

        By time only the newest labelled window has any; by entity or row every window does.
        """
        if self.by == "time":
            return self._tail(window) if newest else np.zeros(len(window.X), dtype=bool)
        keys = window.entity if self.by == "entity" else row_keys(window.X)
        assert keys is not None, "the contract holds an entity whenever the holdout is by entity"
        codes, distinct = pd.factorize(keys)
        seed = hashlib.blake2b(self.loop.encode()).digest()
        held = np.fromiter((_fraction(key, seed) < self.share for key in distinct), dtype=bool, count=len(distinct))
        mask: np.ndarray = held[codes]

        return mask

    def check(self, window: Window) -> None:
        """Raise WindowError when the window, were it the newest, would have no holdout to be told apart."""
        if self.by == "time":
            self._tail(window)

    def _tail(self, window: Window) -> np.ndarray:
        times = window.timestamp
        assert times is not None, "the contract holds a timestamp whenever the holdout is by time"
        first = times.sort_values().iloc[len(times) - math.ceil(self.share * len(times))]
        tail: np.ndarray = (times >= first).to_numpy()  # rows of one instant stay on one side
        if tail.mean() > (1 + self.share) / 2:  # most of what was to be learnt from would be held out
            problem = (
                f"timestamp {self.column} is {first} or later in {int(tail.sum())} of {len(times)} rows, which leaves "
                f"no tail of {self.share:g} of them; use holdout.by = 'row'"
            )
            raise WindowError(window.id, [problem])
        return tail


def _digest(names: tuple[str, ...]) -> str:
    return hashlib.blake2b("\n".join(names).encode(), digest_size=4).hexdigest()


def _fraction(key: str, seed: bytes) -> float:
    """A stable hash of the key, uniform in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=seed).digest()) / 2**64


def row_keys(X: pd.DataFrame) -> pd.Series:
    """One string a row made of all feature values, so that duplicates stay together."""
    hashes = pd.util.hash_pandas_object(X, index=False)
    return hashes.astype(str)


def require_same_rule(stored: str | None, rule: HoldoutRule, version: str) -> None:
    """Raise HoldoutMismatch unless the version was trained under this rule."""
    if stored == str(rule):
        return
    trained = f"was trained under the holdout rule {stored!r}" if stored else "carries no holdout rule"
    raise HoldoutMismatch(
        f"version {version} {trained}, the loop's is {str(rule)!r}: it may have trained on today's holdout, so the two "
        f"cannot be compared. Put [holdout] and the loop's name in loop.toml back (by row, [features] too); or bring "
        f"it in anew with `driftloop adopt DIR models:/{rule.loop}/{version} --trained-until …`, which compares it on "
        f"later rows only; or give the loop a new name to start with a first champion under the new rule."
    )


def unseen(adopted: Adopted | None, window: Window) -> Window:
    """The rows that an adopted version cannot have seen: those after what it was trained on. All where it is none.

    Raises ContractError where loop.toml no longer names the times that tell them.
    """
    if adopted is None:
        return window
    if adopted.unit == "window":
        return window.where(np.full(len(window.X), window.id > adopted.until))
    if window.timestamp is None:
        raise ContractError(
            f"the champion was adopted from {adopted.source} as trained until the time {adopted.until}, and loop.toml "
            f"names no timestamp that tells which rows are later. Put it back."
        )
    return window.where((window.timestamp > edge(adopted.until, window.timestamp)).to_numpy())


def edge(until: str, times: pd.Series) -> pd.Timestamp:
    """An instant in ISO 8601 as one that compares with ``times``; UTC where only one of the two names a zone."""
    instant, zone = pd.Timestamp(until), times.dt.tz
    if (instant.tz is None) == (zone is None):
        return instant
    return instant.tz_localize("UTC") if instant.tz is None else instant.tz_convert("UTC").tz_localize(None)
