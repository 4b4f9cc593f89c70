"""What a user may put beside a loop: an estimator, and factories of preprocessing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler


def scaled(numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    """What every estimator got before trees got codes and nulls."""
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numeric", numbers, numeric), ("categorical", words, categorical)])


def squeezed(numeric: list[str], categorical: list[str]) -> ColumnTransformer:
    """Of other parts than the default's."""
    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), MinMaxScaler())
    words = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)
    return ColumnTransformer([("some", numbers, numeric), ("others", words, categorical)])


def nothing(numeric: list[str], categorical: list[str]) -> None:
    pass


def broken(numeric: list[str], categorical: list[str]) -> Any:
    raise KeyError("plan")


class Share(ClassifierMixin, BaseEstimator):
    """The share of events, whatever the row."""

    def __init__(self, prior: float = 1.0) -> None:
        self.prior = prior

    def fit(self, X: np.ndarray, y: np.ndarray) -> Share:
        self.classes_ = np.unique(y)
        self.known_ = Known((self.prior + y.sum()) / (2 * self.prior + len(y)))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.tile([1 - self.known_.share, self.known_.share], (len(X), 1))

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Known:
    """What it learnt, an object of a class of its own."""

    def __init__(self, share: float) -> None:
        self.share = share


class Mean(RegressorMixin, BaseEstimator):
    """The mean of the target, whatever the row; ``seen_`` is the target as it was given."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Mean:
        self.seen_ = np.asarray(y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.seen_.mean())


class Duck:
    """It has scikit-learn's methods, and nothing else of it."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}

    def fit(self, X: np.ndarray, y: np.ndarray) -> Duck:
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


class Secretive(BaseEstimator):
    """What it learns has a name that scikit-learn passes by."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Secretive:
        self.mean = float(np.mean(y))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.mean)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.tile([1 - self.mean, self.mean], (len(X), 1))


class Classless(Secretive):
    """It knows no classes by name."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Classless:
        super().fit(X, y)
        self.known_ = True
        return self
