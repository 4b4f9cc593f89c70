"""The MLflow Model Registry and tracking server, seen from one loop."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from driftloop import blank
from driftloop.artifact import WHAT_IS_TRUSTED, trusted_types, unreviewed
from driftloop.card import WAITS
from driftloop.compiled import FILE
from driftloop.errors import ArtifactError, ContractError, NotInRegistry, Unreachable
from driftloop.facts import Version
from driftloop.report import metrics_json
from driftloop.settings import Settings, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo

    from driftloop.facts import Facts
    from driftloop.importance import Importance
    from driftloop.search import Searched
    from driftloop.training import Candidate

CHAMPION = "champion"
CHALLENGER = "challenger"
DECISION = "decision"
IMPORTANCE = "importance.json"  # beside the run
# what MLflow's client makes of an answer that is not a registry's to us
FAILURES = {
    "INTERNAL_ERROR": "does not answer",
    "TEMPORARILY_UNAVAILABLE": "does not answer",
    "ENDPOINT_NOT_FOUND": "is no MLflow server",
    "UNAUTHENTICATED": "does not let us in",
    "CUSTOMER_UNAUTHORIZED": "does not let us in",
    "PERMISSION_DENIED": "does not let us in",
}
NAME_ONE = "Name one as runs:/RUN/model, models:/NAME/VERSION or a folder, and its server with MLFLOW_TRACKING_URI."
LIBRARIES = ("scikit-learn", "skops", "numpy", "pandas", "scipy")


class Registry:
    """Versions and aliases of the registered model ``name``, and the experiment of the same name."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = settings
        self.name = name

    @property
    def client(self) -> MlflowClient:
        """MLflow keeps the connection behind it, so a client costs nothing to make."""
        import mlflow

        if self.settings.mlflow_file:
            blank.provide("mlflow", self.settings.mlflow_file)
        uri = self.settings.tracking_uri
        if mlflow.get_tracking_uri() != uri or mlflow.get_registry_uri() != uri:
            mlflow.set_tracking_uri(uri)  # parts of MLflow (downloads, log_model) know only the process's address
            mlflow.set_registry_uri(uri)
        return mlflow.MlflowClient(uri, uri)

    def open(self) -> None:
        """Make the connection that the first question would make. Raises Unreachable."""
        with self._reachable():
            assert self.client is not None, "made for its side: MLflow keeps the connection behind it"

    def champion(self) -> str | None:
        """The version behind the alias, or None when nobody set it.

        Raises Unreachable when the registry does not answer: that is never "no champion".
        """
        return self.aliases().get(CHAMPION)

    def aliases(self) -> dict[str, str]:
        """Alias to version; empty while no version was ever registered."""
        try:
            with self._reachable():
                return self._aliases()
        except NotInRegistry:
            return {}

    def version(self, number: str) -> Version:
        """A version with the run that made it."""
        with self._reachable():
            return Version(number, str(self.client.get_model_version(self.name, number).run_id or ""))

    def _aliases(self) -> dict[str, str]:
        model = self.client.get_registered_model(self.name)
        if model.name != self.name:  # a proxy's empty 200 would otherwise read as a model without champion
            raise ConnectionError(f"its answer does not name the model {self.name}")
        return {alias: str(version) for alias, version in model.aliases.items()}

    def point(self, alias: str, version: str | None) -> None:
        """Let an alias name a version, or nothing."""
        with self._reachable():
            if version is None:
                self.client.delete_registered_model_alias(self.name, alias)
            else:
                self.client.set_registered_model_alias(self.name, alias, version)

    def recorded(self, version: str) -> tuple[dict[str, str], dict[str, float]]:
        """The parameters and metrics of the run that made a version."""
        with self._reachable():
            data = self.client.get_run(self.client.get_model_version(self.name, version).run_id).data
            return dict(data.params), dict(data.metrics)

    def tags(self, version: str) -> dict[str, str]:
        with self._reachable():
            return dict(self.client.get_model_version(self.name, version).tags)

    def explain(self, version: str, decision: Mapping[str, Any], card: str) -> None:
        """Keep a decision with the version it judged: the model card, JSON beside its run, and last of all the tags."""
        with self._reachable():
            self.client.update_model_version(self.name, version, description=card)
            run_id = self.client.get_model_version(self.name, version).run_id
            self.client.log_dict(run_id, dict(decision), "decision.json")
        self.mark(version, str(decision["outcome"]), str(decision["reason"]))

    def mark(self, version: str, outcome: str, reason: str) -> None:
        """What became of a version, in its tags, and in its card where that says that it waits."""
        with self._reachable():
            card = self.client.get_model_version(self.name, version).description or ""
            if WAITS in card and outcome != "ask":
                self.client.update_model_version(self.name, version, card.replace(WAITS, f"{outcome}: {reason}."))
            for tag, value in (("reason", reason), (DECISION, outcome)):
                self.client.set_model_version_tag(self.name, version, tag, value)

    def marked(self, version: str) -> str | None:
        """The outcome that ``explain`` or ``mark`` left behind when it went to its end."""
        return self.tags(version).get(DECISION)

    def download(self, version: str, folder: Path) -> Path:
        """Copy a version's model folder below ``folder`` and return where it lies."""
        from mlflow.artifacts import download_artifacts

        with self._reachable():
            source = self.client.get_model_version(self.name, version).source
            return Path(download_artifacts(artifact_uri=source, dst_path=str(folder)))

    def fetch(self, uri: str, folder: Path) -> Path:
        """Copy a model from wherever MLflow finds ``uri`` below ``folder``. Raises ContractError where none is."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        if Path(uri).is_dir():
            return Path(uri)
        if ":" not in uri:
            raise ContractError(f"MODEL = {uri}: there is no such folder. {NAME_ONE}")
        assert self.client is not None, "made for its side: downloads know only the process's address"
        try:
            with self._reachable():
                return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except (NotInRegistry, MlflowException, OSError) as error:
            cause = error.__cause__ if isinstance(error, NotInRegistry) else error
            said = without_password(str(cause).splitlines()[0])[:300].rstrip(". ")
            raise ContractError(f"MODEL = {without_password(uri)} cannot be read: {said}. {NAME_ONE}") from error

    def register(
        self, candidate: Candidate, params: Mapping[str, Any], tags: Mapping[str, str], report: str | None
    ) -> Version:
        """Log a training as an MLflow run and register its model; the version returned is the one MLflow gave it.

        ``report`` is the Evidently report as HTML. Raises ArtifactError when the model holds types nobody reviewed.
        """
        import mlflow
        from mlflow.exceptions import MlflowException

        from driftloop.forest import packed

        facts, files = _stored_beside(candidate)
        with (
            self._reachable(),
            mlflow.start_run(
                experiment_id=self._experiment(),
                run_name=f"{'adopt' if facts.adopted else 'train'} {facts.windows[-1]}",
                tags=dict(tags),
            ) as run,
        ):
            mlflow.log_params(dict(params))
            if facts.contest:
                mlflow.log_table(facts.contest.table(), "contest.json")
            for found in candidate.searched:
                self._log_trials(found, run.info)
            if report:
                mlflow.log_text(report, "drift_report.html")
            if candidate.importance:
                self._log_importance(run.info.run_id, candidate.importance)
            if candidate.evaluation:
                mlflow.log_text(candidate.evaluation, "evaluation.html")
            try:
                info = mlflow.sklearn.log_model(
                    packed(candidate.estimator),
                    name="model",
                    signature=_signature(facts),
                    pip_requirements=_requirements(candidate.estimator),
                    serialization_format="skops",
                    skops_trusted_types=trusted_types(candidate.estimator),
                    metadata={"driftloop": json.loads(facts.model_dump_json())},
                )
            except MlflowException as error:
                if "skops" not in str(error):
                    raise
                # not MLflow's own text, which says to trust the types
                held = ", ".join(unreviewed(candidate.estimator)) or f"what does not load again: {error.__cause__}"
                raise ArtifactError(
                    f"the fitted {type(candidate.estimator['model']).__name__} cannot be stored without pickle: it "
                    f"holds {held}. {WHAT_IS_TRUSTED}; or choose other parameters, or another estimator."
                ) from error
            mlflow.log_metrics(_metrics(facts), model_id=info.model_id)  # those there before it MLflow reads one by one
            with TemporaryDirectory() as folder:
                for name, content in files.items():
                    (file := Path(folder) / name).write_bytes(content)
                    self.client.log_model_artifact(info.model_id, str(file))
            version = self._create_version(info, run.info.run_id, tags)
        return Version(version, run.info.run_id)

    def keep_importance(self, version: str, importance: Importance) -> None:
        """What was found of a version's features once it was there, beside the run that made it."""
        run_id = self.version(version).run_id
        with self._reachable():
            self._log_importance(run_id, importance)

    def importance(self, version: str) -> dict[str, float]:
        """What a version's features matter, as Facts.importance; empty where nothing was kept, or its run is gone."""
        from mlflow.artifacts import load_dict

        try:
            run_id = self.version(version).run_id
            with self._reachable():
                if not any(file.path == IMPORTANCE for file in self.client.list_artifacts(run_id)):
                    return {}
                found = load_dict(f"runs:/{run_id}/{IMPORTANCE}")
        except NotInRegistry:
            return {}
        return {feature["name"]: feature["mean"] for feature in found["features"]}

    def _log_importance(self, run_id: str, importance: Importance) -> None:
        self.client.log_dict(run_id, importance.json(), IMPORTANCE)
        self.client.log_text(run_id, importance.page(), "importance.html")

    def _log_trials(self, found: Searched, parent: RunInfo) -> None:
        """A run a trial, below the one of the training; with the times it had, for it is over."""
        from mlflow.entities import Metric, Param, RunStatus, RunTag

        for number, trial in enumerate(found.trials, 1):
            began, ended = (round(1000 * time.timestamp()) for time in (trial.began, trial.ended))
            scores = [Metric(f"fold_{found.metric}", value, ended, step) for step, value in enumerate(trial.folds)]
            if trial.score is not None:
                scores.append(Metric(f"search_{found.metric}", trial.score, ended, 0))
            tags = {"mlflow.parentRunId": parent.run_id, "trial": trial.state}
            name = f"{found.recipe.name} trial {number}"
            run_id = self.client.create_run(parent.experiment_id, began, tags, name).info.run_id
            params = [Param(f"model.{key}", str(value)) for key, value in trial.params.items()]
            why = [RunTag("why", trial.why)] if trial.why else []
            self.client.log_batch(run_id, scores, [Param("estimator", found.recipe.estimator), *params], why)
            status = {"complete": RunStatus.FINISHED, "pruned": RunStatus.KILLED}.get(trial.state, RunStatus.FAILED)
            self.client.set_terminated(run_id, RunStatus.to_string(status), ended)

    def _create_version(self, info: ModelInfo, run_id: str, tags: Mapping[str, str]) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self.client.create_model_version(
            self.name, info.model_uri, run_id=run_id, tags=dict(tags), model_id=info.model_id
        )
        return str(made.version)

    def log_page(self, version: str, path: str, html: str) -> str | None:
        """Keep a page beside the run that made a version; returns its address for a browser where MLflow has a UI."""
        with self._reachable():
            run_id = self.client.get_model_version(self.name, version).run_id
            self.client.log_text(run_id, html, path)
            experiment = self.client.get_run(run_id).info.experiment_id
        ui = self.settings.mlflow_ui
        return f"{ui}/#/experiments/{experiment}/runs/{run_id}/artifacts/{path}" if ui else None

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.name)
        if found:
            return str(found.experiment_id)
        folder = self.settings.artifacts
        location = (folder / self.name).as_uri() if folder else None
        return str(self.client.create_experiment(self.name, artifact_location=location))

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Turn "no registry answered us" into Unreachable with the address; leave every other error as it is."""
        import requests
        from mlflow.exceptions import MlflowException
        from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
        from sqlalchemy.exc import DatabaseError

        try:
            yield
        except UnsupportedModelRegistryStoreURIException:
            address = without_password(self.settings.tracking_uri)
            raise ContractError(
                f"MLFLOW_TRACKING_URI = {address}: expected the address of an MLflow server or of a database, such as "
                f"http://localhost:5000 or sqlite:///mlflow.db."
            ) from None
        except (requests.RequestException, DatabaseError, ConnectionError) as error:
            raise self._unreachable("does not answer", error) from error
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NotInRegistry(
                    f"MLflow at {without_password(self.settings.tracking_uri)} does not hold what the ledger says was "
                    f"registered: {error}. Point MLFLOW_TRACKING_URI at the registry that this ledger belongs to."
                ) from error
            if error.error_code in FAILURES:
                raise self._unreachable(FAILURES[error.error_code], error) from error
            raise

    def _unreachable(self, what: str, error: Exception) -> Unreachable:
        address = without_password(self.settings.tracking_uri)
        cause = str(error).splitlines()[0].replace(self.settings.tracking_uri, address)
        return Unreachable(
            f"MLflow at {address} {what} ({cause[:200]}). Start it or correct MLFLOW_TRACKING_URI, then run again."
        )


@cache
def library_versions() -> Mapping[str, str]:
    """Of the libraries a stored model needs to be loaded and to score as it did."""
    from importlib.metadata import version

    return {name: version(name) for name in LIBRARIES}


def _metrics(facts: Facts) -> dict[str, float]:
    found = metrics_json(facts) | facts.search_metrics
    if facts.effective_rows is not None:
        found["effective_rows"] = facts.effective_rows
    trials = facts.contest.trials if facts.contest else ()
    return found | {f"contest_{trial.name}": trial.score for trial in trials if trial.score is not None}


def _stored_beside(candidate: Candidate) -> tuple[Facts, dict[str, bytes]]:
    """The files beside the model, and the candidate's facts that tell of them."""
    files = {} if candidate.compiled is None else {FILE: candidate.compiled}
    if candidate.evidence is None:
        return candidate.facts, files
    kept = candidate.evidence.files
    return candidate.facts.model_copy(update={"evidence": candidate.evidence.facts(kept)}), files | kept


def _requirements(estimator: Any) -> list[str]:
    # given, not inferred: inference loads the model in a new process and costs 6 to 9 seconds
    from driftloop.boosters import LIBRARIES as BOOSTERS
    from driftloop.boosters import library

    needed = dict(library_versions())
    if booster := library(getattr(estimator["model"], "regressor_", estimator["model"]), *BOOSTERS):
        needed[booster] = sys.modules[booster].__version__
    return [f"{name}=={version}" for name, version in needed.items()]


def _signature(facts: Facts) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs = [ColSpec(DataType.double, name, required=False) for name in facts.numeric]
    inputs += [ColSpec(DataType.string, name, required=False) for name in facts.categorical]
    output = DataType.double if facts.task == "regression" else DataType.long
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(output)]))
