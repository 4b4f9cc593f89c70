"""What a fitted preprocessing does, in a form that can be written as a graph and told apart by feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler


@dataclass(frozen=True)
class Numbers:
    """Numeric features side by side: nulls become ``fill`` (may be null), then (value - ``mean``) / ``scale``."""

    names: tuple[str, ...]
    fill: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None

    @property
    def owners(self) -> tuple[str, ...]:
        """The feature of each column."""
        return self.names


@dataclass(frozen=True)
class Codes:
    """Categorical features side by side: a word becomes its number, any other ``unknown``."""

    names: tuple[str, ...]
    codes: tuple[Mapping[str, float], ...]
    unknown: float

    @property
    def owners(self) -> tuple[str, ...]:
        """The feature of each column."""
        return self.names


@dataclass(frozen=True)
class OneHot:
    """Categorical features one after the other, a column for each of a feature's ``words``."""

    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    @property
    def owners(self) -> tuple[str, ...]:
        """The feature of each column."""
        return tuple(name for name, words in zip(self.names, self.words, strict=True) for _ in words)


Block = Numbers | Codes | OneHot


class Nullable(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Numbers and nulls as they are, but for columns without any number: histograms cannot be made of those, so their
    nulls become 0.
    """

    def fit(self, X: Any, y: Any = None) -> Nullable:  # noqa: ARG002  # scikit-learn's signature
        self.fill_ = np.where(np.isnan(np.asarray(X, dtype=float)).all(axis=0), 0.0, np.nan)
        return self

    def transform(self, X: Any) -> np.ndarray:
        values = np.asarray(X, dtype=float)
        return values if np.isnan(self.fill_).all() else np.where(np.isnan(values), self.fill_, values)


def fit_transform(encode: Pipeline, X: pd.DataFrame, y: Any) -> Any:
    """What ``encode.fit_transform`` gives; a table of the same where it leaves the numbers as they are.

    The numbers in the table are those of X itself, for which a copy of many rows takes as much memory as they do. Its
    columns have no names, so that a model learns none.
    """
    if not _keeps_numbers(encode):
        return encode.fit_transform(X, y)
    encode.fit(X, y)
    (_, numbers, numeric), (_, words, categorical) = encode[0].transformers_
    if not np.isnan(numbers.fill_).all():
        return encode.transform(X)
    if not categorical:
        kept = X.copy(deep=False)
        kept.columns = pd.RangeIndex(len(numeric))
        return kept
    kept = _side_by_side([X[name].to_numpy() for name in numeric], X.index)
    for column in words.transform(X[categorical]).T:
        kept[len(kept.columns)] = column  # pandas would copy all to put them side by side
    return kept


def _side_by_side(columns: Sequence[np.ndarray], index: pd.Index) -> pd.DataFrame:
    """A table of unnamed columns: where these are the rows of one array, of that, for many would be copied into one."""
    whole = columns[0].base if columns else None
    if isinstance(whole, np.ndarray) and whole.shape == (len(columns), len(index)):
        places = [column.__array_interface__["data"] for column in columns]
        if places == [row.__array_interface__["data"] for row in whole]:
            return pd.DataFrame(whole.T, index=index, copy=False)
    return pd.DataFrame(dict(enumerate(columns)), index=index, copy=False)


def _keeps_numbers(encode: Pipeline) -> bool:
    """Whether it is what recipe.build makes for trees on histograms, before it is fitted."""
    (_, columns), *others = encode.steps
    if others or not isinstance(columns, ColumnTransformer):
        return False
    kinds = [type(transformer) for _, transformer, _ in columns.transformers]
    return kinds == [Nullable, OrdinalEncoder]


def blocks(encode: Any, numeric: Sequence[str], categorical: Sequence[str]) -> tuple[Block, ...]:
    """The columns that a fitted transformer makes of the features, from the left.

    Raises NotImplementedError saying which part of it is none of these.
    """
    if not isinstance(encode, ColumnTransformer):
        if not categorical:
            return (_numbers(encode, tuple(numeric)),)
        raise NotImplementedError(f"a preprocessing by {type(encode).__name__}")
    if encode.transformer_weights:
        raise NotImplementedError("a preprocessing with weights")
    return tuple(_blocks(encode, frozenset(numeric)))


def _blocks(encode: ColumnTransformer, numeric: frozenset[str]) -> Iterator[Block]:
    for _, transformer, columns in encode.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        if not all(isinstance(column, str) for column in columns):
            raise NotImplementedError("a preprocessing that takes columns by something else than their names")
        if not (names := tuple(columns)):
            continue
        if set(names) <= numeric:
            yield _numbers(transformer, names)
        elif set(names) & numeric:
            raise NotImplementedError("a preprocessing that takes numbers and categories together")
        else:
            yield _words(transformer, names)


def _numbers(transformer: Any, names: tuple[str, ...]) -> Numbers:
    fill, mean, scale = None, None, None
    for step in _steps(transformer):
        if isinstance(step, SimpleImputer) and mean is None and not step.add_indicator:
            fill = step.statistics_.astype(float)
            if np.isnan(fill).any() or not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
                raise NotImplementedError(f"such a {type(step).__name__}")
        elif isinstance(step, Nullable) and mean is None:
            fill = step.fill_
        elif isinstance(step, StandardScaler) and mean is None:
            mean = np.zeros(len(names)) if step.mean_ is None or not step.with_mean else step.mean_
            scale = np.ones(len(names)) if step.scale_ is None else step.scale_
        elif not _is_passthrough(step):
            raise NotImplementedError(f"numbers through {type(step).__name__}")
    return Numbers(names, fill, mean, scale)


def _words(transformer: Any, names: tuple[str, ...]) -> Block:
    steps = [step for step in _steps(transformer) if not _is_passthrough(step)]
    if not steps:
        raise NotImplementedError("categories that stay words")
    encoder = steps[0]
    if len(steps) == 1 and isinstance(encoder, OrdinalEncoder):
        return Codes(
            names, tuple(_codes(encoder)), float("nan" if encoder.unknown_value is None else encoder.unknown_value)
        )
    if len(steps) == 1 and isinstance(encoder, OneHotEncoder):
        rare = getattr(encoder, "infrequent_categories_", [None])
        if encoder.drop_idx_ is None and all(one is None for one in rare) and not encoder.sparse_output:
            return OneHot(names, tuple(tuple(words) for words in encoder.categories_))
    raise NotImplementedError(f"categories through such a {type(encoder).__name__}")


def _codes(encoder: OrdinalEncoder) -> Iterator[dict[str, float]]:
    """What each known word becomes; the encoder itself is asked, because rare ones may share a number."""
    known, longest = encoder.categories_, max(map(len, encoder.categories_))
    asked = {name: [*words, *[words[0]] * (longest - len(words))] for name, words in enumerate(known)}
    rows = pd.DataFrame(asked).to_numpy(dtype=object)
    found = encoder.transform(rows if not hasattr(encoder, "feature_names_in_") else _named(encoder, rows))
    for words, column in zip(known, np.asarray(found, dtype=float).T, strict=True):
        yield dict(zip(words.tolist(), column[: len(words)].tolist(), strict=True))


def _named(encoder: OrdinalEncoder, rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=encoder.feature_names_in_)


def _steps(transformer: Any) -> list[Any]:
    return [step for _, step in transformer.steps] if isinstance(transformer, Pipeline) else [transformer]


def _is_passthrough(step: Any) -> bool:
    return (
        step in ("passthrough", None)
        if isinstance(step, str | None)
        else (isinstance(step, FunctionTransformer) and step.func is None)
    )
