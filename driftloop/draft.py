"""A first loop.toml from the windows themselves: what `driftloop init` infers and writes down."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from driftloop import contract
from driftloop.contract import Features, Label, Loop
from driftloop.errors import ContractError
from driftloop.frame import categories, positive_label
from driftloop.windows import SUFFIXES, FolderWindows, open_windows, read_table

TARGET_NAMES = ("target", "label", "y", "churn", "churn_label", "class", "outcome")
MANY = 50  # a string column with more distinct values than this, in most rows its own, names rows and is no category


@dataclass(frozen=True)
class Draft:
    """What goes into loop.toml. ``path`` and ``labels`` are relative to it; ``unused`` are columns left out."""

    name: str
    task: str
    target: str
    positive: Label | None
    entity: str | None
    timestamp: str | None
    path: str
    labels: str | None
    features: Features
    holdout: str
    unused: tuple[str, ...]

    @property
    def toml(self) -> str:
        """A commented loop.toml."""
        estimator = "Classifier" if self.task == "binary" else "Regressor"
        balanced = 'class_weight = "balanced", ' if self.task == "binary" else ""
        metric = "auc" if self.task == "binary" else "rmse"
        lines = [
            f"name = {_toml(self.name)}  # registry model name and Prefect tag",
            f"task = {_toml(self.task)}",
            f"target = {_toml(self.target)}",
            *(
                [f"positive = {_toml(self.positive)}  # the label that is the event"]
                if self.positive is not None
                else []
            ),
            *([f"entity = {_toml(self.entity)}  # who owns the row; never a feature"] if self.entity else []),
            *(
                [f"timestamp = {_toml(self.timestamp)}  # a time within the window; never a feature"]
                if self.timestamp
                else []
            ),
            "",
            "[windows]",
            f"path = {_toml(self.path)}",
            *([f"labels = {_toml(self.labels)}  # they may arrive later than the window"] if self.labels else []),
            "",
            "[features]",
            f"numeric = {_toml(list(self.features.numeric))}",
            f"categorical = {_toml(list(self.features.categorical))}",
            *([f"# not used: {', '.join(_toml(name)[1:-1] for name in self.unused)}"] if self.unused else []),
            "",
            "[model]",
            f'estimator = "sklearn.ensemble.RandomForest{estimator}"',
            f"params = {{ n_estimators = 300, {balanced}random_state = 42 }}",
            "",
            "[training]",
            'strategy = "all"  # "all" labelled windows so far, "rolling:3" or "latest"',
            "",
            "[holdout]",
            f"by = {_toml(self.holdout)}  # rows no model ever trains on; keep it as it is once the loop runs",
            "share = 0.2",
            "",
            "[drift]",
            "threshold = 0.3  # retrain when more than this share of the features drifted",
            "",
            "[promotion]",
            f"metric = {_toml(metric)}",
            "delta = 0.01  # promote when the gain exceeds this …",
            "confidence = 0.95  # … and its lower bound at this confidence is above 0",
        ]
        return "\n".join(lines) + "\n"


def layout(folder: Path) -> tuple[str, str | None]:
    """(windows path, labels path or None) below ``folder``: ``windows/`` if it is there, else the folder itself."""
    labels = "labels" if (folder / "labels").is_dir() and any((folder / "labels").iterdir()) else None
    if (folder / "windows").is_dir():
        return "windows", labels
    if any(f.suffix in SUFFIXES or _holds_tables(f) for f in folder.iterdir()):
        return ".", labels
    raise ContractError(
        f"{folder} holds no windows: expected files such as windows/2024-01.csv or 2024-01.parquet, or one folder of "
        f"tables a window such as windows/2024-01/users.csv."
    )


@dataclass(frozen=True)
class Survey:
    """What lies in a folder: the ids of its windows and the rows of the first one that has labels."""

    path: str
    labels: str | None
    ids: tuple[str, ...]
    rows: pd.DataFrame
    entity: str | None
    target: str | None


def survey(folder: Path, *, entity: str | None, target: str | None) -> Survey:
    """Read the first labelled window of a folder that has no loop.toml yet.

    A table's entity is found as the column that all its tables, and the labels, share. Raises ContractError.
    """
    path, labels = layout(folder)
    ids = FolderWindows(folder, path, labels, entity=entity, target=target).ids()
    ids = [i for i in ids if i != "labels"]
    if not ids:
        raise ContractError(f"{folder / path} holds no windows yet; put the first one there and run again.")
    plain = FolderWindows(folder, path, labels, entity=entity, target=target)
    first = next((i for i in ids if plain.label_file(i)), ids[0])
    tables = list(plain.tables(first).values())
    label_file = plain.label_file(first)
    if label_file is not None:
        given = read_table(first, plain.files, label_file)
        tables.append(given)
    entity = entity or (_shared_key(tables) if len(tables) > 1 else None)
    if label_file is not None and target is None:
        others = [c for c in tables[-1].columns if c != entity]
        target = str(others[0]) if len(others) == 1 else None
    rows = FolderWindows(folder, path, labels, entity=entity, target=target).read(first)
    return Survey(path, labels, tuple(ids), rows, entity, target)


def _shared_key(tables: Sequence[pd.DataFrame]) -> str | None:
    """The column that all tables have and that is different in every row."""
    shared = [c for c in tables[0].columns if all(c in table and table[c].is_unique for table in tables)]
    return str(shared[0]) if shared else None


def resolved(folder: Path) -> Loop:
    """The loop in ``folder``; features left out of loop.toml are inferred from its first window."""
    loop = contract.load(folder)
    if loop.features is not None:
        return loop
    windows = open_windows(loop, folder)
    ids = windows.ids()
    if not ids:
        raise ContractError(f"{folder / 'loop.toml'} lists no features and there is no window to infer them from.")
    return loop.model_copy(update={"features": infer_features(windows.read(ids[0]), loop)})


def loop_name(folder: Path) -> str:
    """The folder's name, with what a registry name cannot hold replaced."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.absolute().name).strip("-._") or "loop"


def infer(
    rows: pd.DataFrame,
    *,
    name: str,
    path: str,
    labels: str | None = None,
    target: str | None = None,
    task: str | None = None,
    positive: Label | None = None,
    entity: str | None = None,
    timestamp: str | None = None,
) -> Draft:
    """Draw up a loop from the first labelled window's rows; what is given wins over what is inferred.

    Raises ContractError when the target cannot be told.
    """
    for role, column in (("target", target), ("entity", entity), ("timestamp", timestamp)):
        if column is not None and column not in rows:
            raise ContractError(
                f"--{role} {column}: there is no such column; the window has {', '.join(map(str, rows.columns))}."
            )
    target = target or guess_target(list(rows.columns))
    if target is None:
        raise ContractError(
            f"which column is to be predicted? Say so with --target, one of: {', '.join(map(str, rows.columns))}."
        )
    others = rows.drop(columns=target)
    entity = entity or guess_entity(others)
    timestamp = timestamp or guess_timestamp(others.drop(columns=[entity] if entity else []))
    task = task or ("binary" if rows[target].dropna().nunique() == 2 else "regression")
    if task == "binary" and positive is None:
        positive = positive_label(rows[target], None)
    features, unused = _features(rows, [c for c in (target, entity, timestamp) if c])
    constant = timestamp is not None and rows[timestamp].nunique() == 1
    holdout = "entity" if entity else "time" if timestamp and not constant else "row"
    return Draft(name, task, target, positive, entity, timestamp, path, labels, features, holdout, unused)


def infer_features(rows: pd.DataFrame, loop: Loop) -> Features:
    """The features of a loop.toml that lists none: every column that is not target, entity or timestamp, nor an id."""
    return _features(rows, [c for c in (loop.target, loop.entity, loop.timestamp) if c])[0]


def guess_target(columns: Sequence[str]) -> str | None:
    """The one column with a target's usual name, if there is exactly one."""
    found = [c for c in columns if str(c).lower() in TARGET_NAMES]
    return found[0] if len(found) == 1 else None


def guess_entity(rows: pd.DataFrame) -> str | None:
    """A column named id or ending in _id, without nulls and all different."""
    named = [c for c in rows if str(c).lower() == "id" or str(c).lower().endswith("_id")]
    return next((str(c) for c in named if rows[c].notna().all() and rows[c].is_unique), None)


def guess_timestamp(rows: pd.DataFrame) -> str | None:
    """The first date column, or string column all of whose values are dates and which is named like one."""
    for name in rows:
        if pd.api.types.is_datetime64_any_dtype(rows[name]):
            return str(name)
    for name in rows:
        like = any(part in str(name).lower() for part in ("time", "date"))
        # a birthday or a signup date repeats, a time within the window does not
        if like and _is_text(rows[name]) and rows[name].nunique() > len(rows) / 2:
            times = pd.to_datetime(rows[name], errors="coerce", format="ISO8601")
            if times.notna().all():
                return str(name)
    return None


def _features(rows: pd.DataFrame, roles: Sequence[str]) -> tuple[Features, tuple[str, ...]]:
    numeric: list[str] = []
    categorical: list[str] = []
    unused: list[str] = []
    for name in (c for c in rows.columns if c not in roles):
        column = rows[name]
        if pd.api.types.is_bool_dtype(column):
            categorical.append(name)
        elif pd.api.types.is_numeric_dtype(column):
            (unused if _numbers_rows(column) or column.isna().all() else numeric).append(name)
        elif _names_categories(column):
            categorical.append(name)
        else:
            unused.append(name)
    return Features(numeric=tuple(numeric), categorical=tuple(categorical)), tuple(unused)


def _numbers_rows(column: pd.Series) -> bool:
    """Whether a numeric column is an id: named like one, or whole numbers that only ever rise from row to row."""
    if str(column.name).lower() == "id" or str(column.name).lower().endswith("_id"):
        return True
    return bool(pd.api.types.is_integer_dtype(column) and column.is_unique and column.is_monotonic_increasing)


def _names_categories(column: pd.Series) -> bool:
    """Whether a text column holds categories: few enough, and any at all."""
    few = max(2, min(MANY, len(column) // 2))
    return _is_text(column) and bool(column.notna().any()) and categories(column).nunique() <= few


def _is_text(column: pd.Series) -> bool:
    return bool(pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column))


def _holds_tables(folder: Path) -> bool:
    return folder.is_dir() and folder.name != "labels" and any(f.suffix in SUFFIXES for f in folder.iterdir())


def spelled(label: Label) -> Label:
    """A label given as text, as TOML would have it: 1 and true are no strings."""
    if isinstance(label, str) and label.lower() in ("true", "false"):
        return label.lower() == "true"
    return int(label) if isinstance(label, str) and label.lstrip("-").isdigit() else label


def _toml(value: object) -> str:
    """TOML's strings, numbers, booleans and arrays of them are written as JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one character only TOML escapes
