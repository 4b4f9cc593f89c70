"""A stored model: the folder MLflow keeps, what the loop needs to know of it, and the checks before it may serve."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter

from driftloop import evidence
from driftloop.compiled import Compiled, differences, digest, load_compiled, read_model
from driftloop.errors import ArtifactError
from driftloop.evidence import Evidence
from driftloop.facts import Facts
from driftloop.frame import features
from driftloop.metrics import Predictions
from driftloop.own import Own

# Types outside skops' own list that a fitted estimator holds. Each was read: plain data holders, compiled loss
# functions, boosters that read their own format out of bytes; none with file, process or network access. A partial
# may only hold a function that is trusted itself.
REVIEWED_TYPES = (
    "catboost.core.CatBoostClassifier",
    "catboost.core.CatBoostRegressor",
    "collections.OrderedDict",
    "driftloop.encoding.Nullable",
    "driftloop.forest.PackedTrees",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.ExpSineSquared",
    "sklearn.gaussian_process.kernels.Exponentiation",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    # of the distances not Mahalanobis, which writes into a buffer whose length a stored model names, and not a user's
    "sklearn.metrics._dist_metrics.BrayCurtisDistance64",
    "sklearn.metrics._dist_metrics.CanberraDistance64",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.DiceDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.HammingDistance64",
    "sklearn.metrics._dist_metrics.HaversineDistance64",
    "sklearn.metrics._dist_metrics.JaccardDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.metrics._dist_metrics.RogersTanimotoDistance64",
    "sklearn.metrics._dist_metrics.RussellRaoDistance64",
    "sklearn.metrics._dist_metrics.SokalSneathDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
    "xgboost.sklearn.XGBRFClassifier",
    "xgboost.sklearn.XGBRFRegressor",
)
WHAT_IS_TRUSTED = (
    "Trusted are the types that driftloop reviewed (docs/estimators.md), and the classes and functions that "
    "the package defines which loop.toml names in model.estimator or model.preprocessing: keep your own in it, at the "
    "top of a module"
)
SAMPLE_TOLERANCE = 1e-9


class Column(BaseModel):
    """One of a signature, as MLflow writes it."""

    name: str
    type: str


SIGNED = TypeAdapter(list[Column])


@dataclass(frozen=True)
class Artifact:
    """A loaded model. ``estimator`` is a fitted scikit-learn pipeline over the columns of ``facts``.

    ``signature`` are the columns that its MLflow signature names.
    ``compiled`` is the same as one graph, which serves in its place; None where the version has none.
    ``evidence`` is what it keeps of its holdout; None where nothing was kept, or where it only serves.
    """

    facts: Facts
    estimator: Any
    signature: tuple[str, ...]
    compiled: Compiled | None = None
    evidence: Evidence | None = None

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        """Shape (rows,): the probability of the positive label, or the predicted value; (rows, labels) for multiclass.

        ``rows`` needs the features as columns; other columns are ignored. Raises ValueError naming a wrong one.
        """
        X = features(rows, self.facts.numeric, self.facts.categorical)
        return score(self.estimator, X, self.facts.task, self.facts.labels)

    def predict(self, rows: pd.DataFrame) -> Predictions:
        """``score`` with the threshold from which on the model says yes."""
        return predictions(self.score(rows), self.facts)

    @property
    def sample(self) -> pd.DataFrame:
        """The stored sample rows as the model takes them."""
        return features(pd.DataFrame(list(self.facts.sample)), self.facts.numeric, self.facts.categorical)

    def verify(self) -> None:
        """Raise ArtifactError unless the sample rows give the stored scores, both ways, and the signature fits."""
        if self.signature != (*self.facts.numeric, *self.facts.categorical):
            raise ArtifactError(f"the signature names {[*self.signature]}, the model was trained on other columns")
        scores = self.score(pd.DataFrame(list(self.facts.sample)))
        difference = float(np.abs(scores - np.asarray(self.facts.sample_scores)).max())
        if not difference <= SAMPLE_TOLERANCE:
            raise ArtifactError(
                f"the stored sample rows score up to {difference:.3g} away from what they did when stored"
            )
        if self.compiled is None or self.facts.compiled is None:
            return
        found = self.compiled.score(*arrays(self.sample, self.facts))
        difference = float(differences(np.asarray(self.facts.sample_scores), found).max())
        if not difference <= self.facts.compiled.tolerance:
            raise ArtifactError(f"the compiled model scores the stored sample rows up to {difference:.3g} differently")


def score(estimator: Any, X: pd.DataFrame | np.ndarray, task: str, labels: Sequence[str] | None = None) -> np.ndarray:
    """Shape (rows,): the probability of class 1 for a binary task, else the prediction.

    For a multiclass task the probabilities of all ``labels``, shape (rows, labels): 0 of one that no training row had.
    """
    if task == "multiclass":
        known = np.asarray(estimator.classes_, dtype=int)
        scores = np.zeros((len(X), len(labels or known)))
        scores[:, known] = estimator.predict_proba(X)
        return scores
    if task == "binary":
        return np.asarray(estimator.predict_proba(X)[:, list(estimator.classes_).index(1)], dtype=float)
    return np.asarray(estimator.predict(X), dtype=float)


def arrays(X: pd.DataFrame, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, words) as Compiled.score takes them, of rows in the form of frame.features."""
    return X[list(facts.numeric)].to_numpy(dtype=float), X[list(facts.categorical)].to_numpy(dtype=object)


def predictions(scores: np.ndarray, facts: Facts) -> Predictions:
    return Predictions(scores) if facts.threshold is None else Predictions(scores, facts.threshold)


def load(folder: Path) -> Artifact:
    """Load a downloaded model folder without running any code from it.

    Only the types skops trusts, REVIEWED_TYPES and what the loop's own modules define are constructed, whatever list
    the folder itself carries.
    Raises ArtifactError when it is incomplete, altered, of another format or needs a type nobody reviewed.
    """
    facts, stored = read_model(folder)  # not MLflow's Model.load, which reads YAML in Python
    if stored.get("signature") is None:
        raise ArtifactError(f"{folder} has no signature")
    try:
        signature = tuple(column.name for column in SIGNED.validate_json(stored["signature"]["inputs"]))
    except (KeyError, TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise ArtifactError(f"the signature in {folder}/MLmodel cannot be read: {error}") from error
    with ThreadPoolExecutor(1) as beside:  # ONNX Runtime reads a graph without Python's lock
        compiled = beside.submit(load_compiled, folder, facts)
        return Artifact(facts, load_skops(folder / "model.skops"), signature, compiled.result())


def load_evidence(folder: Path, facts: Facts) -> Evidence | None:
    """What a downloaded version kept of its holdout; None where it kept nothing.

    Raises ArtifactError when a file is absent or not the one that the facts tell of.
    """
    told = facts.evidence
    if told is None:
        return None
    content = {name: _kept(folder / name, sha256) for name, sha256 in told.sha256.items()}
    try:
        with np.load(io.BytesIO(content[evidence.FILE]), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found = Evidence(arrays["y"], arrays["scores"], int(arrays["rows"]))
        if told.loss is None:
            return found
        from driftloop.error_model import ErrorModel  # the API loads models too, and never this

        estimator = load_skops(folder / evidence.ERRORS)
        return replace(found, errors=ErrorModel(told.loss, estimator, arrays["fold"], arrays["told"]))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder / evidence.FILE} is not what driftloop stores: {error}") from None


def _kept(file: Path, sha256: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}") from error
    if digest(content) != sha256:
        raise ArtifactError(f"{file} is not what was stored: its digest differs from the one in MLmodel")
    return content


def trusted_types(estimator: Any) -> list[str]:
    """REVIEWED_TYPES, and what the estimator holds of the loop's own modules, see Own.defines. Raises as unreviewed."""
    return [*REVIEWED_TYPES, *(_own_types(_held(estimator)) if Own.admitted().modules else [])]


def unreviewed(estimator: Any) -> list[str]:
    """The types that keep a fitted estimator from being stored. Raises ArtifactError where skops cannot write it."""
    return sorted(set(_held(estimator)) - set(trusted_types(estimator)))


def _held(estimator: Any) -> list[str]:
    """The types it is made of that skops does not trust."""
    import skops.io

    try:
        return list(skops.io.get_untrusted_types(data=skops.io.dumps(estimator)))
    except Exception as error:  # an estimator may be anybody's, and hold anything, itself too
        raise ArtifactError(
            f"the fitted model cannot be stored without pickle: skops cannot write what it holds "
            f"({type(error).__name__}: {error}). Other parameters or another estimator may hold plainer things."
        ) from error


def _own_types(untrusted: list[str]) -> list[str]:
    own = Own.admitted()
    return [name for name in untrusted if own.defines(name)]


def load_skops(file: Path) -> Any:
    """What skops stored, of types it trusts, REVIEWED_TYPES and what the loop's own modules define.

    Raises ArtifactError.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    from driftloop import forest

    try:
        own = _own_types(skops.io.get_untrusted_types(file=file)) if Own.admitted().modules else []
        loaded = skops.io.load(file, trusted=[*REVIEWED_TYPES, *own])
        forest.unpack(loaded)
        return loaded
    except UntrustedTypesFoundException as error:
        raise ArtifactError(f"{file} needs types that nobody reviewed: {error}. {WHAT_IS_TRUSTED}") from None
    except Exception as error:  # a truncated or altered zip fails in many ways deep inside skops
        raise ArtifactError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
