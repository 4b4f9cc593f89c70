"""A first loop.toml from the windows themselves: what `driftloop init` infers and writes down."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from driftloop import contract, own
from driftloop.contract import Features, Label, Loop
from driftloop.errors import ContractError, WindowError
from driftloop.frame import categories, positive_label
from driftloop.storage import shown
from driftloop.tables import MOST_KINDS, read_table
from driftloop.windows import SUFFIXES, FolderWindows, open_windows

TARGET_NAMES = ("target", "label", "y", "churn", "churn_label", "class", "outcome")
MOST_CLASSES = 20  # of a target that --task does not speak of; `frame` takes more
FEW = 10  # owners whose rows come again and again; a share of fewer cannot be held out
ENOUGH = 300  # rows of a window with which the default policy hardly ever takes chance for drift, see docs/triggers.md


@dataclass(frozen=True)
class Draft:
    """What goes into loop.toml. ``path`` and ``labels`` are relative to it; ``unused`` are columns left out.

    ``fewest``: rows of the smaller of the windows seen.
    """

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
    delta: float = 0.01
    fewest: int | None = None

    @property
    def small(self) -> str | None:
        """What to do about windows so small that chance looks like drift; None where they are not."""
        if self.fewest is None or self.fewest >= ENOUGH:
            return None
        return (
            f"A window holds {self.fewest} rows: below {ENOUGH} chance may look like drift. Cut coarser ones, or let "
            f"small ones start nothing (min_rows = {ENOUGH}) and ask for two in a row (consecutive = 2)"
        )

    @property
    def toml(self) -> str:
        """A commented loop.toml."""
        estimator = "Regressor" if self.task == "regression" else "Classifier"
        # a leaf of one row says 0 or 1; balanced weights would make what larger ones say anything but a probability
        own = "" if self.task == "regression" else "min_samples_leaf = 5, "
        metric = contract.DEFAULT_METRIC[self.task]
        unit = ", in the target's units" if self.task == "regression" else ""
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
            "[validation]",
            'on_bad_rows = "fail"  # the window, where rows break schema.yaml; "drop" or "quarantine": on without them',
            "",
            "[model]",
            f'estimator = "sklearn.ensemble.RandomForest{estimator}"',
            f"params = {{ n_estimators = 100, {own}random_state = 42 }}",
            "",
            "[training]",
            'strategy = "all"  # labelled windows so far; "auto" tries fewer too (docs/strategies.md)',
            "",
            "[holdout]",
            f"by = {_toml(self.holdout)}  # rows no model ever trains on; keep it as it is once the loop runs",
            "share = 0.2",
            "",
            "[drift]",
            "threshold = 0.3  # retrain when more than this share of the features drifted",
            "",
            "# [trigger]  # fewer false alarms, a window later; what starts a training: docs/triggers.md",
            '# on = ["drift", "performance", "estimated"]',
            *([f"# max_drop = {5 * self.delta:g}  # of performance{unit}"] if self.task == "regression" else []),
            "# consecutive = 2",
            f"# min_rows = {ENOUGH}",
            *([f"# {self.small}"] if self.small else []),
            "",
            "[promotion]",
            f"metric = {_toml(metric)}",
            f"delta = {self.delta:g}  # promote when the gain exceeds this{unit} …",
            "confidence = 0.95  # … and its lower bound at this confidence is above 0",
            'approval = "auto"  # "always": a human has the last word; "borderline": where the evidence leaves it open',
        ]
        return "\n".join(lines) + "\n"


def layout(folder: Path) -> tuple[str, str | None]:
    """(windows path, labels path or None) below ``folder``: ``windows/`` if it is there, else the folder itself."""
    labels = "labels" if (folder / "labels").is_dir() and any((folder / "labels").iterdir()) else None
    if (folder / "windows").is_dir():
        return "windows", labels
    if any(f.suffix.lower() in SUFFIXES or _holds_tables(f) for f in folder.iterdir()):
        return ".", labels
    raise ContractError(
        f"{folder} holds no windows: expected files such as windows/2024-01.csv or 2024-01.parquet, or one folder of "
        f"tables a window such as windows/2024-01/users.csv."
    )


@dataclass(frozen=True)
class Survey:
    """What lies in a folder: the ids of its windows, the rows of the first one that has labels and of the newest.

    ``later`` is None when the two are the same window, or the newest cannot be read.
    """

    path: str
    labels: str | None
    ids: tuple[str, ...]
    rows: pd.DataFrame
    later: pd.DataFrame | None
    entity: str | None
    target: str | None


def survey(
    folder: Path, *, entity: str | None, target: str | None, path: str | None = None, labels: str | None = None
) -> Survey:
    """Read the first labelled window of a folder that has no loop.toml yet; it may lie elsewhere, at ``path``.

    A table's entity is found as the column that all its tables, and the labels, share. Raises ContractError.
    """
    if path is None:
        path, found = layout(folder)
        labels = labels or found
    ids = FolderWindows(folder, path, labels, entity=entity, target=target).ids()
    ids = [i for i in ids if i != "labels"]
    if not ids:
        where = shown(path) if "://" in path else folder / path
        raise ContractError(f"{where} holds no windows yet; put the first one there and run again.")
    plain = FolderWindows(folder, path, labels, entity=entity, target=target)
    first = next((i for i in ids if plain.label_file(i)), ids[0])
    tables = list(plain.tables(first).values())
    label_file = plain.label_file(first)
    if label_file is not None:
        given = read_table(first, plain.files, label_file)
        tables.append(given)
    entity = entity or (_shared_key(tables) if len(tables) > 1 else None)
    if label_file is not None and target is None:
        others = [str(c) for c in tables[-1].columns if c != entity]
        target = others[0] if len(others) == 1 else guess_target(others)
    elif target is None:
        target = guess_target([str(column) for table in tables for column in table])
    windows = FolderWindows(folder, path, labels, entity=entity, target=target)
    return Survey(path, labels, tuple(ids), windows.read(first), _later(windows, first, ids[-1]), entity, target)


def _later(windows: FolderWindows, first: str, newest: str) -> pd.DataFrame | None:
    try:
        return None if newest == first else windows.read(newest)
    except WindowError:
        return None  # `check` says what is wrong with it


def _shared_key(tables: Sequence[pd.DataFrame]) -> str | None:
    """The column that all tables have and that is different in every row."""
    shared = [c for c in tables[0].columns if all(c in table and table[c].is_unique for table in tables)]
    return str(shared[0]) if shared else None


def resolved(folder: Path) -> Loop:
    """The loop in ``folder``; features left out of loop.toml are inferred from its first window. Its own modules can be
    imported from then on.
    """
    loop = contract.load(folder)
    own.admit(folder, loop)
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
    later: pd.DataFrame | None = None,
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
    """Draw up a loop from the first labelled window's rows, and a later one's; what is given wins over the inferred.

    Raises ContractError when the target cannot be told, or is of no task there is.
    """
    for role, column in (("target", target), ("entity", entity), ("timestamp", timestamp)):
        if column is not None and column not in rows:
            raise ContractError(
                f"--{role} {column}: there is no such column; the window has {', '.join(map(str, rows.columns))}."
            )
    given = [column for column in (target, entity, timestamp) if column is not None]
    if len(set(given)) < len(given):
        raise ContractError(
            f"--target, --entity and --timestamp name {', '.join(given)}: expected a column of its own for each"
        )
    target = target or guess_target(list(rows.columns))
    if target is None:
        raise ContractError(
            f"which column is to be predicted? Say so with --target, one of: {', '.join(map(str, rows.columns))}."
        )
    others = rows.drop(columns=target)
    timestamp = timestamp or guess_timestamp(others.drop(columns=[entity] if entity else []), later)
    entity = entity or guess_entity(others, timestamp)
    task = task or guess_task(rows[target])
    if task == "binary" and positive is None:
        positive = positive_label(rows[target], None)
    features, unused = _features(rows, [c for c in (target, entity, timestamp) if c])
    constant = timestamp is not None and rows[timestamp].nunique() == 1
    holdout = "entity" if entity else "time" if timestamp and not constant else "row"
    delta = a_margin(rows[target]) if task == "regression" else 0.01
    fewest = min(len(seen) for seen in (rows, later) if seen is not None)
    return Draft(
        name, task, target, positive, entity, timestamp, path, labels, features, holdout, unused, delta, fewest
    )


def a_margin(target: pd.Series) -> float:
    """A hundredth of what the target varies by, to one digit: 0.01 would be nothing to a price, and all to a rate."""
    spread = float(pd.to_numeric(target, errors="coerce").std())
    return float(f"{spread / 100:.1g}") if spread > 0 else 0.01


def infer_features(rows: pd.DataFrame, loop: Loop) -> Features:
    """The features of a loop.toml that lists none: every column that is not target, entity or timestamp, nor an id."""
    return _features(rows, [c for c in (loop.target, loop.entity, loop.timestamp) if c])[0]


def guess_target(columns: Sequence[str]) -> str | None:
    """The one column with a target's usual name, if there is exactly one."""
    found = [c for c in columns if str(c).lower() in TARGET_NAMES]
    return found[0] if len(found) == 1 else None


def guess_task(target: pd.Series) -> str:
    """Binary for two values, multiclass for some words or a few whole numbers, regression for other numbers.

    Raises ContractError for anything else.
    """
    distinct = target.dropna().unique()
    if len(distinct) == 2:
        return "binary"
    few = 2 < len(distinct) <= MOST_CLASSES and 2 * len(distinct) <= target.count()
    if few and (_is_text(target) or _is_whole(target)):
        return "multiclass"
    if pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target):
        return "regression"
    raise ContractError(
        f"target {target.name} holds {len(distinct)} different values, e.g. {', '.join(map(str, distinct[:3]))}: "
        f"expected two labels (binary), 3 to {MOST_CLASSES} that come again (multiclass) or numbers (regression). Name "
        f"another column with --target, or say --task multiclass."
    )


def guess_entity(rows: pd.DataFrame, timestamp: str | None) -> str | None:
    """A column named like an id, without nulls and all different, in the window or (if several) at each time."""
    named = [c for c in rows if c != timestamp and is_id(c) and rows[c].notna().all()]
    once = [c for c in named if rows[c].is_unique]
    again = [c for c in named if timestamp and rows[c].nunique() >= FEW and not rows.duplicated([c, timestamp]).any()]
    return next((str(name) for name in once + again), None)


def guess_timestamp(rows: pd.DataFrame, later: pd.DataFrame | None) -> str | None:
    """The first date column whose dates lie before the later window's: a birthday's or a sign-up's do not.

    With one window only, a column of dates by type, or text named like a time that hardly repeats.
    """
    for name in rows:
        times = _dates(rows[name])
        if times is None:
            continue
        if later is not None:
            afterwards = _dates(later[name]) if name in later else None
            if afterwards is not None and times.max() < afterwards.min():
                return str(name)
        elif not _is_text(rows[name]) or (
            any(part in str(name).lower() for part in ("time", "date")) and times.nunique() > len(rows) / 2
        ):
            return str(name)
    return None


def _dates(column: pd.Series) -> pd.Series | None:
    """The column as UTC times; None unless all its values are dates or ISO 8601 text."""
    if pd.api.types.is_numeric_dtype(column) or column.isna().any() or column.empty:
        return None
    if _is_text(column) and not re.match(r"\d{4}-\d\d", str(column.iloc[0])):
        return None  # "2024" and "10" are ISO 8601 too, and no dates
    times = pd.to_datetime(column, errors="coerce", format="ISO8601", utc=True)
    return times if times.notna().all() else None


def is_id(name: object) -> bool:
    """``id``, ``user_id``, ``user id``, ``UserId``, ``userID``."""
    return bool(re.search(r"(^|[_\W])id$", str(name), re.IGNORECASE) or re.search(r"[a-z0-9](Id|ID)$", str(name)))


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
        elif _names_categories(column) and not is_id(name) and _dates(column.dropna()) is None:
            categorical.append(name)
        else:
            unused.append(name)
    return Features(numeric=tuple(numeric), categorical=tuple(categorical)), tuple(unused)


def _numbers_rows(column: pd.Series) -> bool:
    """Whether a numeric column is an id: named like one, or whole numbers that only ever rise from row to row."""
    return is_id(column.name) or bool(
        pd.api.types.is_integer_dtype(column) and column.is_unique and column.is_monotonic_increasing
    )


def _names_categories(column: pd.Series) -> bool:
    """Whether a text column holds categories: few enough, and any at all."""
    few = max(2, min(MOST_KINDS, len(column) // 2))
    return _is_text(column) and bool(column.notna().any()) and categories(column).nunique() <= few


def _is_whole(column: pd.Series) -> bool:
    """Integers, and what a null among them makes of them."""
    if pd.api.types.is_float_dtype(column):
        return bool(column.isna().any() and (column.dropna() % 1 == 0).all())
    return bool(pd.api.types.is_integer_dtype(column))


def _is_text(column: pd.Series) -> bool:
    return bool(pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column))


def _holds_tables(folder: Path) -> bool:
    return folder.is_dir() and folder.name != "labels" and any(f.suffix.lower() in SUFFIXES for f in folder.iterdir())


def spelled(label: Label) -> Label:
    """A label given as text, as TOML would have it: 1 and true are no strings."""
    if isinstance(label, str) and label.lower() in ("true", "false"):
        return label.lower() == "true"
    return int(label) if isinstance(label, str) and label.lstrip("-").isdigit() else label


def _toml(value: object) -> str:
    """TOML's strings, numbers, booleans and arrays of them are written as JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one character only TOML escapes
