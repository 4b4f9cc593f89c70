"""A loop with everything it works on: contract, windows, ledger, registry."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pandas as pd

from driftloop import artifact, draft, golden, own, reading, recipe, schema, search, serving_check
from driftloop.artifact import Artifact
from driftloop.contract import Loop
from driftloop.entry import REIGNS
from driftloop.errors import ArtifactError, ContractError, DriftloopError, WindowError
from driftloop.frame import Window
from driftloop.golden import NO_CASES, Cases
from driftloop.holdout import HoldoutRule
from driftloop.ledger import Ledger
from driftloop.promotion import ServingCheck
from driftloop.reading import Before, Reading
from driftloop.registry import CHALLENGER, CHAMPION, Registry
from driftloop.reigns import waiting
from driftloop.schema import Schema
from driftloop.settings import Settings, without_password
from driftloop.training import require_strategies
from driftloop.windows import Windows, none_yet, open_windows

CACHED_ROWS = 300_000  # larger windows are read again, so that training has their memory
KEPT_MODELS = 2  # a champion, and the version it is compared with


@dataclass(frozen=True)
class Serving:
    """The champion's version and the windows it was trained on, oldest first."""

    version: str
    windows: tuple[str, ...]


@dataclass(frozen=True)
class Champion:
    """The version that serves, loaded."""

    version: str
    artifact: Artifact


class ServingChecks(Protocol):
    """Tries a version in a clean process; ``start`` gets one under way."""

    def start(self) -> object: ...
    def check(self, request: serving_check.Request) -> ServingCheck: ...


@dataclass
class Workspace:
    """What a flow run holds in its hands. Windows and models are kept by content, so nothing read twice goes stale."""

    folder: Path
    settings: Settings
    loop: Loop
    windows: Windows
    ledger: Ledger
    registry: Registry
    golden: Cases = NO_CASES
    checks: ServingChecks = serving_check
    schema: Schema | None = None
    sources: str = ""  # of the loop's own modules, see own.sources
    _readings: OrderedDict[tuple[str, ...], Reading] = field(default_factory=OrderedDict)
    _before: Before = field(default_factory=dict)
    _models: OrderedDict[str, Artifact] = field(default_factory=OrderedDict)

    @property
    def rule(self) -> HoldoutRule:
        return HoldoutRule.of(self.loop)

    def read(self, window: str) -> Window:
        """The checked rows of a window, without those that schema.yaml had set aside. Raises WindowError."""
        found = self.reading(window)
        if found.window is None:
            raise WindowError(window, list(found.problems))
        return found.window

    def reading(self, window: str) -> Reading:
        """A window with what schema.yaml says of it; rows set aside are kept in a file where loop.toml wants that."""
        key = (window, *self.reading_key(window))
        if key in self._readings:
            return self._readings[key]
        found = reading.read(self.windows, window, self.loop, self.schema, self._before)
        self._keep_aside(window, found)
        if found.size or found.judgement:  # a file that could not be read may be readable in a moment
            self._readings[key] = found
        while len(self._readings) > 1 and sum(kept.size for kept in self._readings.values()) > CACHED_ROWS:
            self._readings.popitem(last=False)
        return found

    def make_room(self, rows: int) -> None:
        """Let go of the windows kept, where as many rows as that are trained on and want the memory."""
        if rows > CACHED_ROWS:
            self._readings.clear()

    def reading_key(self, window: str) -> tuple[str, ...]:
        """What a reading depends on, beside loop.toml."""
        return reading.key(self.windows, window, self.loop, self.schema, self._before)

    def aside(self, window: str) -> Path:
        """Where the rows of a window are kept that it goes on without."""
        return self.settings.home / "quarantine" / self.loop.name / f"{window}.csv"

    def _keep_aside(self, window: str, found: Reading) -> None:
        file = self.aside(window)
        if found.set_aside is None or self.loop.validation.on_bad_rows != "quarantine":
            file.unlink(missing_ok=True)  # those of an earlier delivery, or of an earlier loop.toml
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        found.set_aside.to_csv(file, index=False)

    def report_page(self, window: str) -> Path:
        """Where Evidently's page of a window is kept."""
        return self.settings.home / "reports" / self.loop.name / f"{window}.html"

    def newest(self) -> str:
        ids = self.windows.ids()
        if not ids:
            raise ContractError(none_yet(self.loop, self.folder))
        return ids[-1]

    def serving(self) -> Serving | None:
        """What the ledger knows of its champion, without loading it."""
        reign = self.ledger.last_reign()
        if reign is None or reign.version is None:
            return None
        return Serving(reign.version, reign.trained_on)

    def champion(self) -> Champion | None:
        """The ledger's champion, loaded from the registry and verified; None when there never was one."""
        version = self.ledger.champion()
        return Champion(version, self.model(version)) if version else None

    def model(self, version: str) -> Artifact:
        if version not in self._models:
            folder = self.registry.download(version, self.settings.home / "models" / self.loop.name / version)
            try:
                loaded = artifact.load(folder)
                loaded.verify()
                loaded = replace(loaded, evidence=artifact.load_evidence(folder, loaded.facts))
                if not loaded.facts.importance:  # which is found out once there is a version
                    matter = {"importance": self.registry.importance(version)}
                    loaded = replace(loaded, facts=loaded.facts.model_copy(update=matter))
            except ArtifactError as error:
                raise ArtifactError(
                    f"version {version} of {self.loop.name} cannot be used: {str(error).rstrip('.')}. Restore its "
                    f"files in MLflow's artifact store, or give the loop a new name to start with a first champion."
                ) from error
            self._models[version] = loaded
            while len(self._models) > KEPT_MODELS:
                self._models.popitem(last=False)
        return self._models[version]

    def point_aliases(self) -> str | None:
        """Make the aliases champion and challenger follow the ledger.

        Returns what was changed, as a sentence. Raises DriftloopError when the registry names a champion that this
        ledger never heard of.
        """
        entries, aliases = self.ledger.entries(), self.registry.aliases()
        reign, asked = next((e for e in reversed(entries) if e.kind in REIGNS), None), waiting(entries)
        if reign is None and CHAMPION in aliases:
            raise DriftloopError(
                f"MLflow's alias champion of {self.loop.name} points at version {aliases[CHAMPION]}, but the ledger at "
                f"{without_password(self.settings.ledger_url)} records no champion. Point DRIFTLOOP_LEDGER_URL at the "
                f"ledger that promoted it, or remove the alias in MLflow to start anew."
            )
        changed = []
        for alias, row in ((CHAMPION, reign), (CHALLENGER, asked)):
            truth, found = row.version if row else None, aliases.get(alias)
            if truth != found:
                self.registry.point(alias, truth)
                to = f"version {truth}" if truth else "nothing"
                changed.append(f"the alias {alias} pointed at {found or 'nothing'} and follows the ledger to {to}")
        return "; ".join(changed) or None


def open_workspace(folder: Path, settings: Settings) -> Workspace:
    """The workspace of the loop in ``folder``; features left out of loop.toml are inferred from the first window."""
    folder = folder.absolute()
    loop = draft.resolved(folder)
    _require_models(loop)
    given = loop.model_dump_json(exclude_unset=True)  # what was left out stays left out: some keys exclude others
    work = _workspace(folder, settings, given)
    return replace(
        work,
        golden=known_cases(folder, loop),
        schema=schema.load(folder, loop),
        sources=own.sources(folder, loop),
    )


def _require_models(loop: Loop) -> None:
    """Raise ContractError where a training would find out late that a recipe cannot be made, searched or learn so."""
    model = loop.model
    if model.candidates or model.search or model.preprocessing != "auto":
        recipe.require(loop)
    search.require(loop)
    require_strategies(loop)


def known_cases(folder: Path, loop: Loop) -> Cases:
    """The cases of the loop's golden.csv; none where there is no such file. Raises ContractError."""
    file = folder / golden.FILE
    if not file.exists():
        return NO_CASES
    try:
        return golden.parse(pd.read_csv(file, dtype=str), loop, str(file))
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ContractError(f"{file} cannot be read: {error}.") from None


@lru_cache(maxsize=2)
def _workspace(folder: Path, settings: Settings, loop_json: str) -> Workspace:
    # keyed by content: a flow and its subflow share what they read, an edited loop.toml opens a new one
    loop = Loop.model_validate_json(loop_json)
    settings.home.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.ledger_url, loop.name)
    return Workspace(
        folder, settings, loop, open_windows(loop, folder, settings), ledger, Registry(settings, loop.name)
    )
