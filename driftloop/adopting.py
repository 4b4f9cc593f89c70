"""A model trained elsewhere becomes this loop's champion, and is compared from then on by later rows only."""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from driftloop.approving import require_words
from driftloop.artifact import load_skops, predictions, score
from driftloop.card import adoption_card
from driftloop.category import MISSING, category
from driftloop.contract import Features, Loop
from driftloop.deciding import policy_of
from driftloop.entry import Entry, Kind
from driftloop.errors import ArtifactError, ContractError, DriftloopError, WindowError
from driftloop.facts import Adopted
from driftloop.following import follow, heal
from driftloop.frame import Window, positive_label
from driftloop.holdout import edge
from driftloop.monitoring import holdout_of, newest_labelled
from driftloop.promoting import check_serving, compiled, kept_of, tags_of, weighed
from driftloop.promotion import against_serving
from driftloop.report import training_json
from driftloop.scores import comparable, evaluate
from driftloop.settings import without_password
from driftloop.strategy import TrainingSet, joined
from driftloop.training import Candidate, described
from driftloop.trees import BOOSTED, HISTOGRAM
from driftloop.workspace import Workspace

ROWS = 5_000  # of the newest window, on which it is exported and tried in a clean process
UNNAMED = "it was fitted without names for them. Fit it on a DataFrame."
AS_READ = 1e-9  # how far scores of rows as the file has them may be from those of the loop's own form
TIME = re.compile(r"(\d{4}-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?)?)(Z|[+-]\d\d:\d\d)?")
TRUTH = {"False": "0", "True": "1"}


@dataclass(frozen=True)
class Fetched:
    """A model from elsewhere; ``stored_with`` is the version of scikit-learn that wrote it."""

    estimator: Any
    stored_with: str


def adopt(
    work: Workspace, uri: str, until: str, by: str, why: str, *, instead: bool = False, trust_pickle: bool = False
) -> Entry:
    """Make the model at an MLflow address champion, trained ``until`` a window (with it) or a time.

    ``instead``: also in place of a champion there is. ``trust_pickle``: load a pickle, which runs what code it holds.
    Returns the ledger row. Raises DriftloopError where there is a champion, ContractError and ArtifactError where the
    model is none for this loop.
    """
    require_words(by, why)
    heal(work)
    now = work.ledger.champion()
    if now and not instead:
        raise DriftloopError(
            f"version {now} is the champion of {work.loop.name}: an adopted model would take its place without having "
            f"been compared with it. If it shall, run `driftloop adopt` again with --replace; `driftloop rollback` "
            f"takes that back."
        )
    newest = work.read(work.newest())
    adopted = Adopted(source=without_password(uri), **_until(work, until))
    known = known_windows(work, adopted)
    fetched = fetch(work, uri, trust_pickle=trust_pickle)
    candidate, notes = _candidate(work, fetched, adopted, known, newest)
    params = {
        "estimator": type(candidate.estimator["model"]).__name__,
        "adopted": adopted.source,
        "trained_until": adopted.until,
        "windows": ",".join(candidate.facts.windows),
        "rows": candidate.facts.rows,
    }
    tags = tags_of(work, candidate, known[-1].id)
    number = work.registry.register(candidate, params, tags, None).number
    made = check_serving(
        work, candidate, number, _spread(newest.X[list(candidate.facts.numeric + candidate.facts.categorical)], ROWS)
    )
    if against := against_serving(made.serving, policy_of(work.loop)):
        work.registry.mark(number, str(against[0]), str(against[1]))
        raise DriftloopError(
            f"{adopted.source} is version {number} and not champion: {against[1]} ({made.serving.found})."
        )
    entry = work.ledger.promote(
        number,
        expected=now,
        window=known[-1].id,
        reason=f"adopted from {adopted.source}, trained until {adopted.until}{f': {why}' if why else ''}",
        actor=by,
        kind=Kind.ADOPTION,
        details={
            "training": training_json(candidate.facts, number),
            "serving": asdict(made.serving),
            "adopted": adopted.model_dump(),
            "notes": notes,
            "why": why,
            "card": adoption_card(candidate.facts, work.loop.promotion.metric, made.serving, by, why, notes),
        },
    )
    follow(work, entry)
    return entry


def _until(work: Workspace, text: str) -> dict[str, str]:
    unit, until = trained_until(text, work.windows.ids(), timed=work.loop.timestamp is not None, now=datetime.now(UTC))
    return {"unit": unit, "until": until}


def trained_until(text: str, windows: Sequence[str], *, timed: bool, now: datetime) -> tuple[str, str]:
    """("window", its id) or ("time", its last instant in ISO 8601): a month or a day is meant with all of it.

    A window's id comes first; a time tells rows apart only where the loop has a timestamp. Raises ContractError for
    what lies ahead: then no row could ever be known to be later.
    """
    where = f"--trained-until {text}"
    if text in windows or not timed:
        if text > windows[-1]:
            raise ContractError(
                f"{where} sorts after {windows[-1]}, the newest window. Give the newest window whose rows the model "
                f"was trained on; the first is {windows[0]}."
            )
        return "window", text
    found = TIME.fullmatch(text)
    try:
        period = pd.Period(found[1]) if found else None
    except ValueError:
        period = None
    if found is None or period is None:
        raise ContractError(
            f"{where}: expected a window ({windows[0]} … {windows[-1]}) or a time such as 2024-03-31 or "
            f"2024-03-31T10:00Z."
        )
    zone = found[2] or ""
    if edge(f"{period.start_time.isoformat()}{zone}", pd.Series([now])) > now:
        raise ContractError(f"{where} lies ahead. Give the time of the newest row that the model was trained on.")
    return "time", f"{period.end_time.isoformat()}{zone}"


def known_windows(work: Workspace, adopted: Adopted) -> list[Window]:
    """The windows that hold rows of the time it was trained in, else the first after it: drift is measured against
    them, as they stand here. Those that cannot be read are passed by.
    """
    found: list[Window] = []
    for name in work.windows.ids():
        try:
            window = work.read(name)
        except WindowError:
            continue
        if found and not _reaches(adopted, window):
            break
        found.append(window)
    if not found:
        raise ContractError(f"no window of {work.loop.name} can be read; `driftloop check` says what is wrong.")
    return found


def _reaches(adopted: Adopted, window: Window) -> bool:
    """Whether the model's training reached into the window."""
    if adopted.unit == "window":
        return window.id <= adopted.until
    times = window.timestamp
    assert times is not None, "a time is taken only where the loop has a timestamp"
    return bool(times.min() <= edge(adopted.until, times))


def fetch(work: Workspace, uri: str, *, trust_pickle: bool) -> Fetched:
    """The scikit-learn estimator at an MLflow address.

    One stored with skops is built of reviewed types only, whatever list it brings along.
    """
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as place:
        folder = work.registry.fetch(uri, Path(place))
        try:
            flavors = Model.load(str(folder)).flavors
        except Exception as error:  # MLflow and PyYAML raise classes of their own for a damaged MLmodel file
            raise ContractError(
                f"MODEL = {uri} holds no MLflow model ({' '.join(str(error).split())[:200]}). Expected a folder with a "
                f"file MLmodel, as mlflow.sklearn.save_model and log_model write it."
            ) from error
        found = flavors.get("sklearn")
        if found is None:
            raise ContractError(
                f"MODEL = {uri} has the flavor {', '.join(sorted(flavors))}; only models of the flavor sklearn can be "
                f"adopted: log it with mlflow.sklearn.log_model."
            )
        stored_with = str(found.get("sklearn_version", "unknown"))
        if found.get("serialization_format") == "skops":
            return Fetched(load_skops(folder / found["pickled_model"]), stored_with)
        if not trust_pickle:
            raise ContractError(
                f"MODEL = {uri} is stored as a pickle, and loading a pickle runs whatever code it holds, with your "
                f"rights. Log it anew with mlflow.sklearn.log_model(…, serialization_format='skops'); or, if you know "
                f"who made it and that nobody could change it since, run again with --trust-pickle: it is loaded once, "
                f"here, and stored anew without pickle."
            )
        return Fetched(_unpickled(folder, uri), stored_with)


def _unpickled(folder: Path, uri: str) -> Any:
    from mlflow.sklearn import load_model

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another version of scikit-learn: what it predicts here is tried
            return load_model(str(folder))
    except Exception as error:  # a pickle runs anybody's code
        raise ArtifactError(f"MODEL = {uri} cannot be loaded: {type(error).__name__}: {error}") from error


def _candidate(
    work: Workspace, fetched: Fetched, adopted: Adopted, known: Sequence[Window], newest: Window
) -> tuple[Candidate, list[str]]:
    """The model as one of this loop's, tried on its rows and scored where that can be; and what is worth noting."""
    _require_kind(fetched.estimator, work.loop.task)
    features = _features_of(fetched.estimator, work.loop)
    loop, columns = work.loop.model_copy(update={"features": features}), list(features.names)
    estimator = as_pipeline(fetched.estimator)
    labelled: Window | None = newest_labelled(work, newest.id, None)
    labels: tuple[str, ...] | None = None
    if loop.task == "multiclass":
        labels = tuple(sorted(map(category, estimator.classes_.tolist())))
        _rename_classes(estimator["model"], [labels.index(category(c)) for c in estimator.classes_.tolist()])
        labelled = labelled.among(labels) if labelled else None
    if loop.task == "binary":
        labels, event = event_of(estimator.classes_, labelled.labels if labelled else None, loop)
        if not event and isinstance(estimator["model"], (*BOOSTED, *HISTOGRAM)):
            raise ContractError(  # their trees give the odds of the second class, and are read as those of the event
                f"the model is a {type(estimator['model']).__name__} whose first class is the event, {labels[1]}: fit "
                f"it with 1 for the event and 0 for the other label."
            )
        _number_classes(estimator["model"], event)
    notes = _tried(work, loop, estimator, newest)
    if left := [name for name in work.loop.columns.names if name not in columns]:
        notes.append(f"it does not take {', '.join(left)}")
    if fetched.stored_with != (here := version("scikit-learn")):
        notes.append(f"scikit-learn {fetched.stored_with} stored it, here it is {here}")
    rows = joined(known)
    rows = replace(rows, X=rows.X[columns], y=None, entity=None, labels=labels)
    learnt = TrainingSet("adopted", tuple(window.id for window in known), rows)
    made = described(loop, None, learnt, f"rows after {adopted.until}", None, estimator)
    made = replace(made, facts=made.facts.model_copy(update={"adopted": adopted}))
    made = compiled(made, _spread(newest.X[columns], ROWS))
    if labelled is None:
        return made, notes
    later = holdout_of(work, labelled, adopted)
    return (_scored(loop, made, later) if comparable(loop, later) else made), notes


def _scored(loop: Loop, made: Candidate, later: Window) -> Candidate:
    rows = replace(later, X=later.X[list(loop.columns.names)])
    predicted = predictions(score(made.estimator, rows.X, loop.task, made.facts.labels), made.facts)
    facts = made.facts.model_copy(update={"metrics": evaluate(loop, rows, predicted)})
    return weighed(loop, replace(made, facts=facts, evidence=kept_of(loop, rows, predicted.scores)), rows)


def as_pipeline(estimator: Any) -> Pipeline:
    """The fitted estimator in the form of our own: "encode", then "model", a target's scaler around the latter only.

    >>> from sklearn.linear_model import Ridge
    >>> [name for name, _ in as_pipeline(Ridge()).steps]
    ['encode', 'model']
    """
    before: list[tuple[str, Any]] = []
    model = estimator
    if isinstance(estimator, Pipeline):
        before, model = estimator.steps[:-1], estimator.steps[-1][1]
    elif isinstance(estimator, TransformedTargetRegressor) and isinstance(estimator.regressor_, Pipeline):
        before, model = estimator.regressor_.steps[:-1], copy.copy(estimator)
        model.regressor = model.regressor_ = estimator.regressor_.steps[-1][1]
    before = [(name, step) for name, step in before if step not in (None, "passthrough")]
    encode = Pipeline(before) if len(before) > 1 else before[0][1] if before else FunctionTransformer()
    return Pipeline([("encode", encode), ("model", model)])


def _require_kind(estimator: Any, task: str) -> None:
    asked = "predict" if task == "regression" else "predict_proba"
    if not hasattr(estimator, asked) or (task == "regression" and is_classifier(estimator)):
        raise ContractError(
            f"the model is a {type(estimator).__name__}; task {task} needs a fitted scikit-learn "
            f"{'regressor' if task == 'regression' else 'classifier'} with {asked}."
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ContractError(f"the model cannot answer yet: {error}") from None


def _features_of(estimator: Any, loop: Loop) -> Features:
    """Those of the loop's features that the model was fitted with, in its order; all where it does not say."""
    named = getattr(estimator, "feature_names_in_", None)
    taken = loop.columns.names if named is None else tuple(str(name) for name in named)
    found = Features(
        numeric=tuple(name for name in taken if name in loop.columns.numeric),
        categorical=tuple(name for name in taken if name in loop.columns.categorical),
    )
    if not found.names:
        raise ContractError(
            f"the model was fitted with the columns {', '.join(taken)}, and loop.toml lists none of them under "
            f"[features] ({', '.join(loop.columns.names)})."
        )
    return found


def event_of(classes: Sequence[Any], labels: tuple[str, ...] | None, loop: Loop) -> tuple[tuple[str, ...], int]:
    """How the labels are spelled, (negative, positive), and which of the model's two classes is the event.

    ``labels`` are the windows', None while none has any: then the classes are taken for them. Else the classes are
    the labels, or 0 and 1, or truth values. Raises ContractError where they are neither.
    """
    spelled = [category(value) for value in classes]
    if labels is None and len(spelled) == 2 and (loop.positive is None or category(loop.positive) in spelled):
        event = category(positive_label(pd.Series(list(classes), dtype=object), loop.positive))
        labels = (next(word for word in spelled if word != event), event)
    plain, wanted = [TRUTH.get(word, word) for word in spelled], [TRUTH.get(word, word) for word in labels or ()]
    if labels and sorted(plain) == sorted(wanted):
        return labels, plain.index(wanted[1])
    if labels and sorted(plain) == ["0", "1"]:
        return labels, plain.index("1")
    known = f"those of {loop.target} are {' and '.join(labels)}" if labels else "no window has labels yet"
    raise ContractError(
        f"the model's classes are {', '.join(spelled[:5])}, and {known}: expected the same, 0 and 1, or truth values."
    )


def _number_classes(model: Any, event: int) -> None:
    """Let a classifier's classes be 0 and 1, the event 1: that is what is scored."""
    found = np.asarray(model.classes_)
    if not (found.dtype.kind in "biuf" and found[event] == 1 and found[1 - event] == 0):
        _rename_classes(model, [0, 1] if event else [1, 0])


def _rename_classes(model: Any, places: list[int]) -> None:
    try:
        model.classes_ = np.array(places)
    except AttributeError:
        raise ContractError(
            f"the classes of a fitted {type(model).__name__} cannot be renamed: fit it with {places} for its classes."
        ) from None


def _tried(work: Workspace, loop: Loop, estimator: Pipeline, newest: Window) -> list[str]:
    """What is worth noting of its answers on the newest window. Raises ContractError where it cannot answer."""
    columns = list(loop.columns.names)
    X = newest.X[columns]
    _require_words(estimator["encode"], loop.columns.categorical)
    found = f"the model cannot answer for the {len(X):,} rows of {newest.id}, whose columns are {', '.join(columns)}"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            scores = np.asarray(score(estimator, X, loop.task))
            several = scores.shape[1:] if loop.task == "multiclass" else ()
        except Exception as error:  # it may be anybody's estimator
            if not any(hasattr(step, "feature_names_in_") for _, step in estimator.steps):
                raise ContractError(f"{found}: {UNNAMED}") from error
            because = f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"
            raise ContractError(
                f"{found}: {because}. Numbers come as float64, categories as words, a missing one as "
                f'"{MISSING}"; name under [features] what it was fitted with.'
            ) from error
    if any("was fitted without feature names" in str(warning.message) for warning in said):
        raise ContractError(f"{found}: {UNNAMED}")
    if scores.shape != (len(X), *several) or not np.isfinite(scores).all():
        raise ContractError(f"{found}: expected a finite number a row, got shape {scores.shape} of {scores.dtype}.")
    if len(raw := work.windows.read(newest.id)) != len(X):
        return []  # the file has other rows than were scored
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            as_read = np.asarray(score(estimator, raw[columns], loop.task))
    except Exception:  # noqa: BLE001  # it may not take the rows as the file has them; that is not asked of it
        return []
    same = np.abs(as_read - scores) <= AS_READ * np.maximum(1, np.abs(scores))
    apart = int((~same.reshape(len(X), -1).all(axis=1)).sum())  # a row of several labels has several scores
    if not apart:
        return []
    otherwise = (
        f"for {apart:,} of {len(X):,} rows of {newest.id} it answers otherwise than for them as the file has them"
    )
    return [f'{otherwise}: here categories are words, a missing one is "{MISSING}"']


def _require_words(encode: Any, categorical: Sequence[str]) -> None:
    """Raise ContractError where an encoder knows a category as a number or truth value: no row would have it here."""
    for name, known in _encoded(encode, list(getattr(encode, "feature_names_in_", ()))):
        strange = [value for value in known if value is not None and value == value and not isinstance(value, str)]
        if name in categorical and strange:
            raise ContractError(
                f"the model knows the categories of {name} as {strange[0]!r} ({type(strange[0]).__name__}), and rows "
                f"come with words such as {category(strange[0])!r}. Fit it on words, or list {name} as numeric."
            )


def _encoded(step: Any, columns: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """(column, its known categories) of the encoders inside a fitted transformer."""
    if isinstance(step, ColumnTransformer):
        for _, inner, taken in step.transformers_:
            yield from _encoded(inner, [taken] if isinstance(taken, str) else list(taken))
    elif isinstance(step, Pipeline):
        for _, inner in step.steps:
            yield from _encoded(inner, columns)
    elif len(known := getattr(step, "categories_", ())) == len(columns):
        yield from zip(columns, known, strict=True)


def _spread(X: pd.DataFrame, rows: int) -> pd.DataFrame:
    """At most so many of the rows, evenly spread."""
    return X.iloc[np.unique(np.linspace(0, len(X) - 1, rows, dtype=int))].reset_index(drop=True)
