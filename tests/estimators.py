"""What becomes of every scikit-learn estimator as a loop's model: the table of docs/serving.md.

``python -m tests.estimators`` writes it anew.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.utils import all_estimators

from driftloop import frame, training
from driftloop.artifact import REVIEWED_TYPES
from driftloop.contract import Loop
from driftloop.errors import DriftloopError
from driftloop.exporting import export
from driftloop.facts import CompiledFacts
from driftloop.holdout import HoldoutRule
from driftloop.strategy import TrainingSet

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"
BEGIN, END = "<!-- estimators: written by python -m tests.estimators -->", "<!-- end of estimators -->"
NEAR = (1e-7, 1e-5)  # another processor may find the other side of the limit
QUICK = {"n_estimators": 10, "max_iter": 200, "random_state": 0, "cv": 3, "n_jobs": 1}  # where an estimator takes them
OWN: dict[str, dict[str, Any]] = {  # by how the name starts
    "HistGradientBoosting": {"max_iter": 10},
    "MLP": {"max_iter": 100},
    "SGDClassifier": {"loss": "log_loss"},
    "SVC": {"probability": True},
    "NuSVC": {"probability": True},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
    "RadiusNeighborsClassifier": {"outlier_label": 0},
}


def table() -> str:
    """Markdown: one line an estimator, and a paragraph on those that cannot be a loop's model at all."""
    lines, out = ["| estimator | compiled |", "|---|---|"], []
    for module, name, task in _candidates():
        found = tried(f"{module}.{name}", task)
        if isinstance(found, CompiledFacts):
            lines.append(f"| `{module}.{name}` | {_phrase(found)} |")
        else:
            out.append(f"`{name}` ({found})")
    return "\n".join([*lines, "", f"No loop's model, compiled or not: {', '.join(out)}."])


def tried(estimator: str, task: str) -> CompiledFacts | str:
    """What an export found, or why there is nothing to export: it does not fit, or cannot be stored without pickle."""
    loop = _loop(estimator, task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten trees are few, and some do not converge
        try:
            window = frame.check(_rows(task), loop, "2024-01")
            train, holdout = training.split([window], HoldoutRule.of(loop))
            # without the threshold, which would be three fits more and is not compiled
            learnt = TrainingSet("all", ("2024-01",), train)
            fitted = training._candidate(loop, loop.model.recipes[0], learnt, str(HoldoutRule.of(loop)), None)
        except (DriftloopError, TypeError, ValueError):
            return "cannot be made of plain parameters" if _needs_more(estimator) else "does not fit such rows"
        untrusted = skops.io.get_untrusted_types(data=skops.io.dumps(fitted.estimator))
        if unknown := sorted(set(untrusted) - set(REVIEWED_TYPES)):
            return f"holds {unknown[0]}, which nobody reviewed"
        return export(fitted.estimator, fitted.facts, holdout.X).facts


def _candidates() -> Iterator[tuple[str, str, str]]:
    for kind, task, asked in (("classifier", "binary", "predict_proba"), ("regressor", "regression", "predict")):
        for name, made in all_estimators(type_filter=kind):
            if hasattr(made, asked) and not name.startswith(("Multi", "Classifier", "Regressor")):
                yield made.__module__.split("._")[0], name, task


def _loop(estimator: str, task: str) -> Loop:
    module, _, name = estimator.rpartition(".")
    takes = getattr(importlib.import_module(module), name)._get_param_names()
    params = {key: value for key, value in QUICK.items() if key in takes}
    params |= next((some for start, some in OWN.items() if name.startswith(start)), {})
    return Loop.model_validate(
        {
            "name": "tried",
            "task": task,
            "target": "y",
            "features": {"numeric": ["fee", "usage"], "categorical": ["plan"]},
            "model": {"estimator": estimator, "params": params},
        }
    )


def _rows(task: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    fee, usage = rng.gamma(2, 10, 240), rng.normal(0, 1, 240)
    plan = rng.choice(["basic", "full"], 240)
    signal = fee / 20 + usage + (plan == "full") + rng.normal(0, 0.5, 240)
    y: Any = signal > np.median(signal) if task == "binary" else np.exp(signal / 4)
    rows = pd.DataFrame({"fee": fee, "usage": usage, "plan": plan, "y": y}).astype({"plan": object})
    rows.loc[::9, "fee"], rows.loc[::11, "plan"] = None, None
    return rows


def _phrase(found: CompiledFacts) -> str:
    """Without digits that another processor would compute differently."""
    if found.difference is not None and NEAR[0] < found.difference < NEAR[1]:
        return f"by version: differs by about {found.tolerance:g}, which is the limit"
    if found.refused is None:
        assert found.difference is not None
        return f"yes, differs by less than {_above(found.difference)}"
    if found.difference is not None:
        return f"no: differs by more than {found.tolerance:g}"
    return f"no: {found.refused}".replace("|", "\\|")


def _above(difference: float) -> str:
    return next(f"{limit:g}" for limit in (1e-12, 1e-9, 1e-6) if difference < limit or math.isclose(limit, 1e-6))


def _needs_more(estimator: str) -> bool:
    module, _, name = estimator.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)()
    except TypeError:
        return True
    return False


def written() -> str:
    """The table as the page has it."""
    _, _, after = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return after.partition(END)[0].strip()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
