"""Stand-ins at the library's seams, and builders of small values; nothing but a ledger touches the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from driftloop import frame
from driftloop.artifact import Artifact
from driftloop.contract import Loop
from driftloop.errors import NotInRegistry
from driftloop.facts import Facts, Version
from driftloop.frame import Window
from driftloop.holdout import HoldoutRule
from driftloop.importance import Importance
from driftloop.ledger import Ledger
from driftloop.promotion import ServingCheck
from driftloop.registry import CHAMPION, Registry
from driftloop.serving_check import Request
from driftloop.settings import Settings
from driftloop.training import Candidate, fit, split
from driftloop.workspace import Workspace


def a_loop(**changes: Any) -> Loop:
    """A binary loop over one numeric and one categorical feature with an owner of each row."""
    return Loop.model_validate(
        {
            "name": "churn",
            "task": "binary",
            "target": "left",
            "entity": "user_id",
            "features": {"numeric": ["fee"], "categorical": ["plan"]},
            "model": {
                "estimator": "sklearn.tree.DecisionTreeClassifier",
                "params": {"max_depth": 3, "random_state": 0},
            },
        }
        | changes
    )


def some_rows(n: int = 60, *, seed: int = 0, shift: float = 0.0) -> pd.DataFrame:
    """Raw rows of the loop above: users u0, u1, … and a label that fee and plan explain in part."""
    rng = np.random.default_rng(seed)
    fee = rng.normal(shift, 1, n)
    plan = rng.choice(["basic", "family"], n)
    left = fee + (plan == "family") + rng.normal(0, 1, n) > shift + 0.5
    return pd.DataFrame({"user_id": [f"u{i}" for i in range(n)], "fee": fee, "plan": plan, "left": left})


def a_window(rows: pd.DataFrame | None = None, loop: Loop | None = None, window: str = "2024-01") -> Window:
    return frame.check(some_rows() if rows is None else rows, loop or a_loop(), window)


def a_candidate(loop: Loop | None = None, windows: list[Window] | None = None) -> Candidate:
    loop, windows = loop or a_loop(), windows or [a_window()]
    rule = HoldoutRule.of(loop)
    return fit(loop, [window.id for window in windows], split(windows, rule)[0], rule)


def stored(candidate: Candidate, **facts: Any) -> Artifact:
    """The candidate as the registry would hand it back."""
    columns = (*candidate.facts.numeric, *candidate.facts.categorical)
    told = candidate.facts.model_copy(update=facts)
    return Artifact(told, candidate.estimator, columns, evidence=candidate.evidence)


def some_facts(**changes: Any) -> Facts:
    values = {
        "loop": "churn",
        "task": "binary",
        "target": "left",
        "labels": ("False", "True"),
        "numeric": ("fee",),
        "categorical": ("plan",),
        "categories": {"plan": ("basic", "family")},
        "windows": ("2024-01", "2024-02"),
        "rows": 1200,
        "fingerprint": "abc",
        "holdout": "entity(user_id) share=0.2 seed=churn",
        "metrics": {"auc": 0.71, "brier": 0.2},
        "sample": ({"fee": 1.0, "plan": "basic"},),
        "sample_scores": (0.5,),
    }
    return Facts.model_validate(values | changes)


@dataclass
class FakeWindows:
    """Windows held in memory; one with the target among its columns has its labels in."""

    tables: dict[str, pd.DataFrame]
    target: str = "left"

    def ids(self) -> list[str]:
        return sorted(self.tables)

    def read(self, window: str) -> pd.DataFrame:
        return self.tables[window]

    def digest(self, window: str) -> str:
        return hashlib.blake2b(self.tables[window].to_csv().encode(), digest_size=8).hexdigest()

    def has_labels(self, window: str) -> bool:
        return self.target in self.tables[window]


@dataclass
class FakeRegistry:
    """Versions in memory, numbered from 1 as MLflow numbers them."""

    candidates: list[Candidate] = field(default_factory=list)
    pointers: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    cards: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)

    def champion(self) -> str | None:
        return self.pointers.get(CHAMPION)

    def aliases(self) -> dict[str, str]:
        return dict(self.pointers)

    def point(self, alias: str, version: str | None) -> None:
        if version is None:
            del self.pointers[alias]
        else:
            self.pointers[alias] = version

    def register(
        self, candidate: Candidate, params: Mapping[str, Any], tags: Mapping[str, str], report: str | None
    ) -> Version:
        self.candidates.append(candidate)
        number = str(len(self.candidates))
        self.tags[number] = dict(tags)
        return Version(number, f"run-{number}")

    def keep_importance(self, version: str, importance: Importance) -> None:
        weighed, place = self.candidates[int(version) - 1], int(version) - 1
        facts = weighed.facts.model_copy(update={"importance": importance.means})
        self.candidates[place] = replace(weighed, facts=facts, importance=importance)

    def explain(self, version: str, decision: Mapping[str, Any], card: str) -> None:
        self.cards[version] = card
        self.decisions[version] = dict(decision)
        self.mark(version, str(decision["outcome"]), str(decision["reason"]))

    def mark(self, version: str, outcome: str, reason: str) -> None:
        self.marks[version] = outcome

    def marked(self, version: str) -> str | None:
        return self.marks.get(version)


@dataclass
class FakeChecks:
    """Serving checks without a process; ``problems`` by version, ``asked`` the versions tried."""

    problems: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def start(self) -> None:
        pass

    def check(self, request: Request) -> ServingCheck:
        self.asked.append(request.version)
        return ServingCheck(self.problems.get(request.version), 0.0, len(request.rows), 1.5, 0.1)


class ServingFrom(Workspace):
    """A workspace whose models come from the fake registry's candidates."""

    def model(self, version: str) -> Artifact:
        candidates = cast("FakeRegistry", self.registry).candidates
        if int(version) > len(candidates):
            raise NotInRegistry(f"there is no version {version}")
        return stored(candidates[int(version) - 1])


def a_workspace(folder: Path, loop: Loop, windows: FakeWindows) -> ServingFrom:
    """Windows, registry and serving checks in memory, the ledger in a SQLite file below ``folder``."""
    settings = Settings.from_env({}, folder)
    ledger = Ledger(settings.ledger_url, loop.name)
    return ServingFrom(folder, settings, loop, windows, ledger, cast("Registry", FakeRegistry()), checks=FakeChecks())
