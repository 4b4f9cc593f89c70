"""Which rows a candidate learns from: a name of loop.toml's [training], and what it makes of the labelled windows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from driftloop.fine_tuning import core, way
from driftloop.frame import T, Window, numbered

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from driftloop.contract import Recipe
    from driftloop.facts import Facts


@dataclass(frozen=True)
class Base:
    """The champion that fine_tune goes on from."""

    version: str
    estimator: Pipeline
    facts: Facts


@dataclass(frozen=True)
class TrainingSet:
    """What a candidate learns from: the rows of ``windows``, oldest first, named after the newest one.

    ``weights`` have mean 1; None where all rows count alike. With a ``base`` that model learns on. ``note`` says where
    the strategy could not do all that its name says.
    """

    strategy: str
    windows: tuple[str, ...]
    rows: Window
    weights: NDArray[np.float64] | None = None
    base: Base | None = None
    note: str | None = None

    @property
    def effective_rows(self) -> float | None:
        """How many rows of equal weight would say as much (Kish): (sum w)² / sum w²; None without weights."""
        return None if self.weights is None else float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def where(self, mask: NDArray[np.bool_]) -> TrainingSet:
        """The same of the rows under a boolean mask of shape (rows,)."""
        weights = None if self.weights is None else self.weights[mask]
        return replace(self, rows=self.rows.where(mask), weights=weights)


def window_limit(*strategies: str) -> int | None:
    """How many of the newest labelled windows they need at most; None for all of them.

    >>> window_limit("rolling:3", "latest")
    3
    >>> window_limit("rolling:3", "all") is None
    True
    """
    limits = [_limit(strategy) for strategy in strategies]
    known = [limit for limit in limits if limit is not None]
    return max(known) if len(known) == len(limits) else None


def _limit(strategy: str) -> int | None:
    kind, _, rest = strategy.partition(":")
    return 1 if kind == "latest" else int(rest) if kind == "rolling" else None


def joined(parts: Sequence[Window]) -> Window:
    """The rows of several windows as one, named after the newest; no copy where they are the pieces of one."""
    whole = parts[0].of
    if whole and all(part.of is whole for part in parts) and sum(len(part.X) for part in parts) == len(whole.X):
        return whole
    if len(parts) == 1:
        return replace(parts[0], of=None)
    return replace(
        parts[-1],
        X=pd.concat([part.X for part in parts], ignore_index=True),
        y=_joined([part.y for part in parts]),
        entity=_joined([part.entity for part in parts]),
        slicing=_joined([part.slicing for part in parts]),
        timestamp=_joined([part.timestamp for part in parts]),
        left_out=sum(part.left_out for part in parts),
        of=None,
    )


def pieces(windows: Sequence[Window], masks: Sequence[NDArray[np.bool_]]) -> tuple[Window, ...]:
    """The windows' rows under the masks, as pieces of these put together, so that they are in memory once."""
    if len(windows) == 1:
        whole = joined([windows[0].where(masks[0])])
    else:
        cut = [replace(window, X=window.X.iloc[:, :0]).where(mask) for window, mask in zip(windows, masks, strict=True)]
        whole = replace(joined(cut), X=_stacked([window.X for window in windows], masks))
    found, start = [], 0
    for window, mask in zip(windows, masks, strict=True):
        end = start + int(mask.sum())

        def piece(column: T | None, start: int = start, end: int = end) -> T | None:
            return None if column is None else numbered(column.iloc[start:end])

        found.append(
            replace(
                window,
                X=numbered(whole.X.iloc[start:end]),
                y=piece(whole.y),
                entity=piece(whole.entity),
                timestamp=piece(whole.timestamp),
                slicing=piece(whole.slicing),
                of=whole,
            )
        )
        start = end
    return tuple(found)


def _stacked(tables: Sequence[pd.DataFrame], masks: Sequence[NDArray[np.bool_]]) -> pd.DataFrame:
    """The rows of a window's features under the masks; a column at a time, so that none is there a third time."""
    ends = np.cumsum([mask.sum() for mask in masks])
    blocks = []
    for kind in (float, object):
        names = [str(name) for name in tables[0].columns[tables[0].dtypes == kind]]
        block = np.empty((len(names), ends[-1]), dtype=kind)
        for row, name in zip(block, names, strict=True):
            for table, mask, part in zip(tables, masks, np.split(row, ends[:-1]), strict=True):
                part[:] = table[name].to_numpy()[mask]
        blocks.append(pd.DataFrame(block.T, columns=names, copy=False))
    return pd.concat([block for block in blocks if len(block.columns)], axis=1, copy=False)


def _joined(columns: Sequence[T | None]) -> T | None:
    present = [column for column in columns if column is not None]
    return pd.concat(present, ignore_index=True) if present else None


def training_set(
    strategy: str, parts: Sequence[Window], *, recipe: Recipe, base: Base | None = None, seed: str = ""
) -> TrainingSet:
    """What a candidate of ``recipe`` learns from by ``strategy``.

    ``parts`` are the training rows of each labelled window, oldest first, without the holdout's. ``base`` is the
    champion, if there is one. What is drawn is drawn by ``seed`` and the newest window's id.
    """
    kind, _, rest = strategy.partition(":")
    if kind == "mix":
        return _mix(strategy, float(rest), parts, seed)
    if kind == "fine_tune":
        return _fine_tune(parts, recipe, base)
    kept = parts[-(window_limit(strategy) or len(parts)) :]
    learnt = TrainingSet(strategy, tuple(part.id for part in kept), joined(kept))
    if kind != "reweight":
        return learnt
    from driftloop.reweighting import density_weights, segment_weights

    current = np.arange(len(learnt.rows.X)) >= len(learnt.rows.X) - len(parts[-1].X)
    if current.all():
        return replace(learnt, note="there is no earlier window to weight: all rows count alike")
    if rest == "segments":
        weights, drifted = segment_weights(learnt.rows.X, current)
        said = f"weighted by {', '.join(drifted)}" if drifted else "no column drifted: all rows count alike"
        return replace(learnt, weights=weights, note=said)
    return replace(learnt, weights=density_weights(learnt.rows.X, current, learnt.rows.entity))


def _mix(strategy: str, share: float, parts: Sequence[Window], seed: str) -> TrainingSet:
    """All rows of the current window, and of the earlier ones as many as the share leaves room for, drawn evenly."""
    *earlier, current = parts
    wanted = round(len(current.X) * (1 - share) / share)
    there = sum(len(part.X) for part in earlier)
    if wanted >= there:
        learnt = TrainingSet(strategy, tuple(part.id for part in parts), joined(parts))
        real = len(current.X) / len(learnt.rows.X)
        short = f"only {there:,} earlier rows for the {wanted:,} asked: the current window's share is {real:.2f}"
        return learnt if wanted == there else replace(learnt, note=short)
    digest = hashlib.blake2b(f"{seed}/{current.id}/mix".encode(), digest_size=8).digest()
    drawn = np.zeros(there, dtype=bool)
    drawn[np.random.default_rng(int.from_bytes(digest)).choice(there, wanted, replace=False)] = True
    ends = np.cumsum([len(part.X) for part in earlier])[:-1]
    kept = [part.where(mask) for part, mask in zip(earlier, np.split(drawn, ends), strict=True) if mask.any()]
    return TrainingSet(strategy, tuple(part.id for part in (*kept, current)), joined([*kept, current]))


def _fine_tune(parts: Sequence[Window], recipe: Recipe, base: Base | None) -> TrainingSet:
    """The rows of the windows newer than the champion's, for it to learn on; without such, all rows for a fit anew."""

    def anew(why: str) -> TrainingSet:
        return TrainingSet("fine_tune", tuple(p.id for p in parts), joined(parts), note=f"{why}: fitted on all rows")

    if base is None:
        return anew("there is no champion to go on from")
    if base.facts.adopted:
        return anew(f"champion {base.version} was adopted, and what it learnt from is not known")
    unable = None if way(base.estimator) else "cannot learn on with the parameters that a search gave it"
    if why := _another(recipe, base, parts[-1].X) or unable:
        return anew(f"champion {base.version} {why}")
    new = [part for part in parts if part.id > base.facts.windows[-1]]
    if not new:
        return anew(f"champion {base.version} knows all of these windows")
    rows = joined(new)
    if why := other_classes(base.estimator, rows):
        return anew(f"the windows new to champion {base.version} {why}")
    return TrainingSet("fine_tune", (*base.facts.windows, *(part.id for part in new)), rows, base=base)


def other_classes(estimator: Any, rows: Window) -> str | None:
    """Why a fitted classifier cannot learn on from these rows: it would rename its classes, or forget one of them."""
    if not hasattr(estimator, "classes_"):
        return None
    known, new = set(estimator.classes_), set(rows.truth)
    return None if known == new else "lack a class" if known - new else "have a class that it never learnt"


def _another(recipe: Recipe, base: Base, X: pd.DataFrame) -> str | None:
    """Why the champion is no model of this recipe; what a search may vary does not make it another."""
    facts, made = base.facts, base.facts.recipe

    def fixed(params: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in params.items() if name not in recipe.space}

    # without a recipe it is from before versions said what they were made by
    name = type(core(base.estimator)).__name__ if made is None else made["estimator"]
    if name not in (recipe.name, recipe.estimator):
        return f"is no {recipe.name}"
    if [*facts.numeric, *facts.categorical] != list(X.columns):
        return "knows other features"
    if made is None:
        return None
    if fixed(made["params"]) != fixed(recipe.model_dump(mode="json")["params"]):
        return "was made with other parameters"
    if (made["preprocessing"], made["scale_target"]) != (recipe.preprocessing, recipe.scale_target):
        return "was made with other preprocessing"
    return None
