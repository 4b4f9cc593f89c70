"""A registered version tried before its alias moves: loaded by a clean process, out of the registry, as the API would.

A process does the imports while the candidate trains; each check is a fork of it that has loaded no model before.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from driftloop import worker
from driftloop.errors import ArtifactError
from driftloop.importing import uncollected
from driftloop.own import Own

if TYPE_CHECKING:  # started before everything heavy
    import numpy as np
    import pandas as pd

    from driftloop.artifact import Artifact
    from driftloop.promotion import ServingCheck
    from driftloop.settings import Settings

WARM_UPS, TIMED = 5, 25
BYTES_A_MB = 1_000_000


@dataclass(frozen=True)
class Request:
    """Which version to load, rows with the features as columns, and what the candidate gave for them.

    ``own``: the process may be older than what its asker has admitted since.
    """

    settings: Settings
    loop: str
    version: str
    rows: pd.DataFrame
    scores: np.ndarray
    own: Own = field(default_factory=Own.admitted)


@cache
def start() -> worker.Worker:
    """The process that imports what a check needs, and from which each check is forked."""
    return worker.Worker("driftloop.serving_check", "tries a version before it serves")


def stop() -> None:
    """End the process; the next check starts another."""
    if start.cache_info().currsize:
        start().end()
        start.cache_clear()


def check(request: Request) -> ServingCheck:
    """Raises Unreachable when the registry does not answer: that is no finding about the version."""
    with downloaded(request) as place:
        try:
            return cast("ServingCheck", start().ask((place, request)))
        except worker.Gone:
            stop()  # the next check finds a new one
            raise


@contextmanager
def downloaded(request: Request) -> Iterator[Path]:
    """The version's files out of the registry, by this process: it has the connection that another would make first."""
    from driftloop.registry import Registry

    with tempfile.TemporaryDirectory() as folder:
        yield Registry(request.settings, request.loop).download(request.version, Path(folder))


def try_version(place: Path, request: Request) -> ServingCheck:
    """The check itself, in this process, of the version's files in ``place``."""
    import numpy as np

    from driftloop import artifact
    from driftloop.evidence import KEPT
    from driftloop.promotion import ServingCheck

    request.own.admit()
    serving = (file for file in place.rglob("*") if file.is_file() and file.name not in KEPT)
    size = sum(file.stat().st_size for file in serving) / BYTES_A_MB
    try:
        loaded = artifact.load(place)
        loaded.verify()
        difference = float(np.abs(loaded.score(request.rows) - request.scores).max())
        apart = _compiled_difference(loaded, request)
    except Exception as error:  # noqa: BLE001  # whatever it is, the API would meet it too: that is the finding
        said = str(error) if isinstance(error, ArtifactError) else f"{type(error).__name__}: {error}"
        return ServingCheck(said.replace(str(place), f"version {request.version}"), size_mb=size)
    problem = None
    if not difference <= artifact.SAMPLE_TOLERANCE:
        problem = f"its scores differ by up to {difference:.3g} from the candidate's on {len(request.rows)} rows"
    elif loaded.facts.compiled is not None and not apart <= loaded.facts.compiled.tolerance:
        problem = f"compiled, its scores differ by up to {apart:.3g} from the candidate's on {len(request.rows)} rows"
    return ServingCheck(problem, difference, len(request.rows), _latency(loaded, request.rows), size)


def _compiled_difference(loaded: Artifact, request: Request) -> float:
    """0.0 where the version serves natively."""
    from driftloop.artifact import arrays
    from driftloop.compiled import differences
    from driftloop.frame import features

    if loaded.compiled is None:
        return 0.0
    X = features(request.rows, loaded.facts.numeric, loaded.facts.categorical)
    return float(differences(request.scores, loaded.compiled.score(*arrays(X, loaded.facts))).max())


def _latency(loaded: Artifact, rows: pd.DataFrame) -> float:
    """Milliseconds of scoring one row with what would serve, median."""
    from driftloop.artifact import arrays
    from driftloop.frame import features

    row, compiled = rows.iloc[:1], loaded.compiled
    given = arrays(features(row, loaded.facts.numeric, loaded.facts.categorical), loaded.facts)
    taken = []
    for _ in range(WARM_UPS + TIMED):
        began = time.perf_counter()
        if compiled is None:
            loaded.score(row)
        else:
            compiled.score(*given)  # a request's values get into arrays without a table
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken[WARM_UPS:])


def _prepare() -> Callable[[Any], Any]:
    with uncollected():  # before the first request: each fork would import it all anew
        import onnxruntime  # noqa: F401
        import pandas as pd
        import skops.io  # noqa: F401
        from sklearn.preprocessing import OrdinalEncoder

        import driftloop.artifact
        import driftloop.forest
        import driftloop.promotion
        import driftloop.recipe  # noqa: F401

        OrdinalEncoder().fit_transform(pd.DataFrame({"x": ["a"]}))  # imports more when it is first used
    return lambda asked: try_version(*asked)


if __name__ == "__main__":
    worker.answer(_prepare, forked=True)
