"""The errors a user can meet. Each text says what is wrong, where, and what to do."""

from __future__ import annotations

import shlex
from pathlib import Path


class DriftloopError(Exception):
    """Something the user can mend; printed as one paragraph, without a traceback."""

    exit_code = 1


class ContractError(DriftloopError):
    """loop.toml, or the way a command was called, is wrong."""

    exit_code = 2


class WindowError(DriftloopError):
    """A window cannot be used; the flow records it as quarantined and goes on with the next."""

    def __init__(self, window: str, problems: list[str]) -> None:
        self.window = window
        self.problems = problems
        super().__init__(f"window {window}: " + "; ".join(problems))

    def __reduce__(self) -> tuple[type[WindowError], tuple[str, list[str]]]:
        # Prefect sends a task's exception through pickle; the default would call us with one string.
        return type(self), (self.window, self.problems)


class TooLate(WindowError):
    """It is older than what the champion learnt from: there is nothing to mend."""


class LabelsNotReady(DriftloopError):
    """The window has no labels yet, so nothing can be trained or scored on it."""


class HoldoutMismatch(DriftloopError):
    """Two versions were trained under different holdout rules and cannot be compared."""


class ChampionMoved(DriftloopError):
    """Somebody else changed the champion since the decision was made; decide again."""


class NotWaiting(DriftloopError):
    """The candidate that a human speaks of does not wait for approval, or not any more."""


class ArtifactError(DriftloopError):
    """A stored model cannot be loaded, or does not predict what it predicted when it was stored."""


class NotInRegistry(DriftloopError):
    """The registry answers that it does not hold what was asked for."""


class Unreachable(DriftloopError):
    """A service did not answer; never taken to mean that what it holds is absent."""


def command(name: str, folder: Path, *more: str) -> str:
    """A command to type next, for a loop's folder as its user named it, whatever is in that name."""
    return shlex.join(["driftloop", name, str(folder), *more])
