"""From a fitted pipeline to a compiled one, accepted only where the two agree."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from driftloop.artifact import arrays, score
from driftloop.compiled import TOLERANCE, Compiled, differences, digest
from driftloop.encoding import Numbers, blocks
from driftloop.facts import CompiledFacts, Facts
from driftloop.graph import graph
from driftloop.odd_rows import odd_rows
from driftloop.trees import Tree, trees_by_class, trees_of

EDGES = 60  # splits of each column whose neighbourhood is tried


@dataclass(frozen=True)
class Exported:
    """A graph that agrees, or why there is none; ``facts`` say so of the version."""

    content: bytes | None
    facts: CompiledFacts


def export(estimator: Pipeline, facts: Facts, rows: pd.DataFrame) -> Exported:
    """Compile what recipe.build made and fitted; ``rows`` (the features as columns, see frame.features) and odd ones
    made from them are scored both ways.

    Never raises for what cannot be compiled or does not agree: the version then says so and serves natively.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows are what odd rows are for, and converters deprecate their own code
        return _export(estimator, facts, rows)


def _export(estimator: Pipeline, facts: Facts, rows: pd.DataFrame) -> Exported:
    odd = odd_rows(rows, facts.numeric, facts.categories, _edges(estimator, facts))
    everything = pd.concat([rows, odd], ignore_index=True)
    tried = len(everything)

    def refused(why: str, difference: float | None = None) -> Exported:
        return Exported(
            None, CompiledFacts(sha256=None, difference=difference, tolerance=TOLERANCE, rows=tried, refused=why)
        )

    try:
        native, overflows = _native(estimator, everything, facts)
    except Exception as error:  # noqa: BLE001  # an estimator may be anybody's; the API answers with what it says
        return refused(f"scikit-learn itself cannot score extreme rows ({_first_line(error)})")
    numbers, words = arrays(everything, facts)
    problems, measured = [], []
    for exactly in (True, False):
        try:
            content = graph(estimator, facts, exactly=exactly, guarded=overflows)
            compiled = Compiled(content)
            found = float(differences(native, compiled.score(numbers, words)).max())
            if found <= TOLERANCE:  # requests bring single rows, and a batch adds up in another order
                alone = [compiled.score(numbers[i : i + 1], words[i : i + 1]) for i in range(len(rows), tried)]
                found = max(found, float(differences(native[len(rows) :], np.concatenate(alone)).max()))
        except Exception as error:  # noqa: BLE001  # converters and ONNX Runtime raise all sorts for what they cannot do
            problems.append(_first_line(error))
            continue
        if found <= TOLERANCE:
            stored = CompiledFacts(
                sha256=digest(content), difference=found, tolerance=TOLERANCE, rows=tried, refused=None
            )
            return Exported(content, stored)
        measured.append(found)
    if not measured:
        return refused(f"it cannot be converted ({problems[0]})")
    if not np.isfinite(found := min(measured)):
        return refused(f"on some of {tried:,} rows one of ONNX and scikit-learn gives a number and the other none")
    return refused(f"its scores differ from scikit-learn's by up to {found:.2g} on {tried:,} rows", found)


def _native(estimator: Pipeline, rows: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, bool]:
    """The pipeline's scores, and whether it refuses rows with a value that float32 cannot hold: theirs are NaN."""
    try:
        return score(estimator, rows, facts.task, facts.labels), False
    except ValueError:
        holds = ~np.isinf(np.asarray(estimator["encode"].transform(rows)).astype("float32")).any(axis=1)
        held = score(estimator, rows[holds], facts.task, facts.labels)
        scores = np.full((len(rows), *held.shape[1:]), np.nan)
        scores[holds] = held
        return scores, True


def _first_line(error: Exception) -> str:
    if type(error).__name__ == "MissingShapeCalculator":
        return "skl2onnx has no converter for it"
    if type(error) is NotImplementedError:  # ours, see encoding.blocks
        return f"there is no graph for {error}"
    lines = str(error).strip().splitlines() or [""]
    said = lines[0].rpartition("Status Message: ")[2].removeprefix("[ONNXRuntimeError] : ")
    return f"{type(error).__name__}: {said[:200]}"


def _edges(estimator: Pipeline, facts: Facts) -> Mapping[str, np.ndarray]:
    """Values of numeric columns at which the model's trees split, some of each."""
    try:
        encoded = blocks(estimator["encode"], facts.numeric, facts.categorical)
        trees = _trees(estimator["model"], facts)
    except NotImplementedError:
        return {}
    if not trees:
        return {}
    feature = np.concatenate([tree.feature[tree.left >= 0] for tree in trees])
    threshold = np.concatenate([tree.threshold[tree.left >= 0] for tree in trees])
    found, column = {}, 0
    for block in encoded:
        for i, name in enumerate(block.owners):
            if isinstance(block, Numbers):
                at = np.unique(threshold[feature == column])
                at = at[np.unique(np.linspace(0, len(at) - 1, EDGES, dtype=int))] if len(at) else at
                found[name] = at if block.mean is None or block.scale is None else at * block.scale[i] + block.mean[i]
            column += 1
    return found


def _trees(model: Any, facts: Facts) -> list[Tree]:
    if facts.task == "multiclass":
        return [tree for one in trees_by_class(model) or () for tree in one.trees]
    one = trees_of(model, binary=facts.task == "binary")
    return [] if one is None else list(one.trees)
