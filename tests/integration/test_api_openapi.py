"""The OpenAPI document is a promise: what it allows is answered, what it forbids is refused, and nothing else comes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from driftloop.contract import Serving
from driftloop.settings import Settings
from services.api.app import Api, build
from services.api.gate import Gate, Keys
from services.api.schema import RequestSchema
from tests.integration.api_fakes import CHURN, SPEND, Switched, compiled_champion, serving
from tests.integration.test_api_gate import ADMIN, KEYS, PREDICT

MOST_ROWS = 20  # a batch of ten thousand is tried elsewhere; here each of hundreds would be as large
CONFORMANCE = (
    "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "negative_data_rejection", "positive_data_acceptance",
)  # fmt: skip
# 413 refuses a batch with too many rows, and 503 everything where there is no model: schemathesis expects neither
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "405", "409", "413", "422", "503"]
"""


Asked = set[tuple[str, int]]
RIGHT_AND_WRONG: Asked = {(path, status) for path in ("/predict", "/feedback") for status in (200, 202, 422)} - {
    ("/predict", 202), ("/feedback", 200),
}  # fmt: skip
# /explain asks a process of its own, which takes seconds to start and has nothing on disk to explain here, so only what
# is refused before it would be asked is tried; tests of its own ask it
WITHOUT_EXPLAIN = ("--exclude-path", "/explain")


@dataclass(frozen=True)
class Run:
    """One run of schemathesis, and some of what it has to see. ``fails``: 503 is what this API has to answer."""

    loop: str | None
    sees: Asked
    arguments: tuple[str, ...]
    phases: str = "coverage,fuzzing"
    examples: int = 30
    guarded: bool = False
    fails: bool = False


RUNS = {
    "a binary champion": Run(
        CHURN,
        RIGHT_AND_WRONG | {("/predict", 413), ("/health", 200), ("/ready", 200), ("/model", 200), ("/metrics", 200)},
        WITHOUT_EXPLAIN,
        "examples,coverage,fuzzing",
    ),
    "a regression champion": Run(SPEND, RIGHT_AND_WRONG, WITHOUT_EXPLAIN),
    "a row that cannot be explained": Run(
        CHURN, {("/explain", 422)}, ("--include-path", "/explain", "--mode", "negative")
    ),
    "no champion yet": Run(
        None, {(f"/{name}", 503) for name in ("predict", "explain", "feedback", "model", "ready")}, (), "fuzzing", 20,
        fails=True,
    ),
    "no key": Run(
        CHURN, {("/predict", 401), ("unmatched", 401), ("/health", 200)},
        ("--generation-with-security-parameters", "false"), "fuzzing", 20, guarded=True,
    ),
    "a key that may only predict": Run(
        CHURN, {("/predict", 200), ("/feedback", 202), ("unmatched", 403)},
        (*WITHOUT_EXPLAIN, "-H", f"X-API-Key: {PREDICT}"), "fuzzing", 20, guarded=True,
    ),
}  # fmt: skip


def an_api(run: Run, home: Path) -> Api:
    """A champion, and a prediction log in a spool that nobody empties."""
    limits = Serving(log="sqlite", max_rows=MOST_ROWS)
    api = build(Settings.from_env({}, home), "churn", 2.0, Switched(None, on=False), limits)
    if run.loop:
        champion = compiled_champion(run.loop, 1)
        api.holder.swap(replace(champion, schema=RequestSchema.of(champion.facts, MOST_ROWS)))
    return api


def answered(api: Api) -> Counter[tuple[str, int]]:
    families = text_string_to_metric_families(api.metrics.text().decode())
    samples = [sample for family in families for sample in family.samples]
    found = [one for one in samples if one.name == "driftloop_api_requests_total"]
    return Counter({(one.labels["path"], int(one.labels["status"])): int(one.value) for one in found})


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_is_allowed_is_answered_what_is_forbidden_refused_and_all_of_it_as_documented(
    run: Run, tmp_path: Path
) -> None:
    api = an_api(run, tmp_path)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    checks = CONFORMANCE if run.fails else ("not_a_server_error", *CONFORMANCE)
    command = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "--no-color", "run"]
    command += ["--checks", ",".join(checks), "--phases", run.phases, "--continue-on-failure"]
    command += ["--max-examples", str(run.examples), "--generation-deterministic", *run.arguments]
    with serving(Gate(api, api.predict, api.metrics, KEYS if run.guarded else Keys())) as client:
        document = client.get("/openapi.json", headers={"X-API-Key": ADMIN})
        (tmp_path / "openapi.json").write_bytes(document.content)
        command += ["--url", str(client.base_url), "openapi.json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = answered(api)
    assert {asked for asked in run.sees if not counts[asked]} == set()
    assert [asked for asked in counts if asked[1] == 500] == [], "documented, and still a defect"
