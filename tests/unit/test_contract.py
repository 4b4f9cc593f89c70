"""loop.toml: what is filled in, what is refused and in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from driftloop import contract
from driftloop.contract import Loop
from driftloop.errors import ContractError

MINIMAL = """
name = "churn"
task = "binary"
target = "left"
[model]
estimator = "sklearn.linear_model.LogisticRegression"
"""
FULL = """
name = "streamflow-churn"
task = "binary"
target = "churn_label"
positive = true
entity = "user_id"
timestamp = "event_time"
[windows]
path = "s3://bucket/windows"
labels = "labels"
[features]
numeric = ["monthly_fee"]
categorical = ["net_service"]
[model]
estimator = "sklearn.ensemble.RandomForestClassifier"
params = { n_estimators = 300, class_weight = "balanced" }
[training]
strategy = "rolling:3"
[holdout]
by = "time"
share = 0.25
[drift]
threshold = 0.5
reference = "previous"
[trigger]
on = ["drift", "performance"]
max_drop = 0.1
cooldown = 2
min_rows = 100
[promotion]
metric = "log_loss"
delta = 0.02
confidence = 0
slices = ["net_service"]
max_slice_drop = 0.05
min_slice_rows = 50
max_latency_ms = 30
max_size_mb = 100
approval = "borderline"
approval_expires = 3
[alerts]
urls = ["mailto://${MAIL_PASSWORD}@example.org"]
[schedule]
cron = "0 6 1 * *"
timezone = "Europe/Berlin"
"""


def minimal(top: str = "", sections: str = "", task: str = "binary") -> Loop:
    return contract.parse(top + "\n" + MINIMAL.replace("binary", task) + sections)


def test_a_full_file_is_read_as_it_says() -> None:
    loop = contract.parse(FULL)
    assert (loop.name, loop.task, loop.target, loop.positive) == ("streamflow-churn", "binary", "churn_label", True)
    assert (loop.windows.path, loop.windows.labels) == ("s3://bucket/windows", "labels")
    assert loop.columns.names == ("monthly_fee", "net_service")
    assert loop.model.params == {"n_estimators": 300, "class_weight": "balanced"}
    assert (loop.training.strategy, loop.holdout.by, loop.holdout.share) == ("rolling:3", "time", 0.25)
    assert (loop.drift.threshold, loop.drift.reference) == (0.5, "previous")
    assert loop.trigger.model_dump() == {
        "on": ("drift", "performance"),
        "max_drop": 0.1,
        "confidence": 0.95,
        "consecutive": 1,
        "cooldown": 2,
        "min_rows": 100,
        "min_importance": 0.0,
        "reference": None,
    }
    assert loop.promotion.model_dump() == {
        "metric": "log_loss",
        "delta": 0.02,
        "confidence": 0,
        "slices": ("net_service",),
        "max_slice_drop": 0.05,
        "min_slice_rows": 50,
        "max_latency_ms": 30,
        "max_size_mb": 100,
        "refit": True,
        "approval": "borderline",
        "approval_expires": 3,
    }
    assert loop.alerts.urls == ("mailto://${MAIL_PASSWORD}@example.org",)
    assert loop.schedule is not None
    assert loop.schedule.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("top", "by"),
    [
        ("", "row"),
        ('timestamp = "at"', "time"),
        ('entity = "user"', "entity"),
        ('entity = "user"\ntimestamp = "at"', "entity"),
    ],
)
def test_the_holdout_is_by_owner_else_by_time_else_by_row(top: str, by: str) -> None:
    assert minimal(top).holdout.by == by


def test_a_given_part_of_a_section_leaves_the_defaults_of_the_rest() -> None:
    loop = minimal('entity = "user"', "[holdout]\nshare = 0.5\n[promotion]\ndelta = 0.1\n")
    assert loop.holdout.model_dump() == {"by": "entity", "share": 0.5}
    assert (loop.promotion.metric, loop.promotion.delta, loop.promotion.confidence) == ("auc", 0.1, 0.95)


def test_the_defaults_are_those_of_the_design() -> None:
    loop = minimal(task="regression")
    assert loop.windows.model_dump(exclude_none=True) == {"path": "windows", "source": "files", "calendar": "month"}
    assert loop.serving.model_dump() == {
        "log": "sqlite",
        "durability": "batch",
        "flush_ms": 200,
        "retention_days": 90,
        "max_spool_mb": 512,
        "auto_rollback": False,
        "max_rows": 10_000,
        "max_body_mb": 32,
        "timeout_s": 30,
        "queue": 1000,
    }
    assert loop.training.strategy == "all"
    assert loop.holdout.share == 0.2
    assert loop.drift.model_dump() == {"threshold": 0.3, "reference": "training", "engine": "auto", "columns": {}}
    assert loop.promotion.model_dump() == {
        "metric": "rmse",
        "delta": 0.01,
        "confidence": 0.95,
        "slices": (),
        "max_slice_drop": 0,
        "min_slice_rows": 100,
        "max_latency_ms": None,
        "max_size_mb": None,
        "refit": False,
        "approval": "auto",
        "approval_expires": 2,
    }
    assert loop.alerts.urls == ()


@pytest.mark.parametrize(("by", "refit"), [("time", True), ("row", False)])
def test_refit_is_on_where_the_holdout_is_by_time(by: str, refit: bool) -> None:
    assert minimal('timestamp = "at"', f'[holdout]\nby = "{by}"\n').promotion.refit is refit


def test_what_is_held_out_by_time_may_still_not_be_refitted() -> None:
    assert minimal('timestamp = "at"', "[promotion]\nrefit = false\n").promotion.refit is False


def test_a_secret_in_an_alert_s_address_is_not_told_in_an_error() -> None:
    with pytest.raises(ContractError, match=r"alerts\.urls\.0: ") as raised:
        minimal("", "[alerts]\nurls = [5, 'slack://s3cret']\n")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("label", "expected"), [("true", True), ("1", 1), ('"yes"', "yes"), ('"1"', "1"), ("0", 0), ("false", False)]
)
def test_the_positive_label_keeps_its_type(label: str, expected: bool | int | str) -> None:
    positive = minimal(f"positive = {label}").positive
    assert (positive, type(positive)) == (expected, type(expected))


def test_a_loop_is_frozen() -> None:
    loop = minimal()
    with pytest.raises(ValueError, match="frozen"):
        loop.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("top", "sections", "message"),
    [
        # unknown keys
        ('taget = "x"', "", "taget is not a known key; check its spelling"),
        ("", "[holdout]\nby_ = 'row'\n", "holdout.by_ is not a known key"),
        ("", "[hold]\nby = 'row'\n", "hold is not a known key"),
        # wrong types
        ("", "[drift]\nthreshold = 'high'\n", "drift.threshold = 'high': .*valid number"),
        ("", "[trigger]\ncooldown = 1.5\n", "trigger.cooldown = 1.5: .*valid integer"),
        ("timestamp = 3", "", "timestamp = 3: .*valid string"),
        ("holdout = 3", "", "holdout = 3: expected a table"),
        ("", "[features]\nnumeric = 'fee'\n", "features.numeric = 'fee': expected a list"),
        # out of range
        ("", "[drift]\nthreshold = 1.5\n", "drift.threshold = 1.5: .*less than or equal to 1"),
        ("", "[drift]\nthreshold = nan\n", "drift.threshold = nan: "),
        ("", "[promotion]\ndelta = -0.1\n", "promotion.delta = -0.1: .*greater than or equal to 0"),
        ("", "[promotion]\ndelta = nan\n", "promotion.delta = nan: "),
        ("", "[promotion]\ndelta = inf\n", "promotion.delta = inf: "),
        ("", "[promotion]\nconfidence = 1\n", "promotion.confidence = 1: .*less than 1"),
        ("", "[promotion]\nconfidence = nan\n", "promotion.confidence = nan: "),
        ("", "[trigger]\nmax_drop = nan\n", "trigger.max_drop = nan: "),
        ("", "[trigger]\nmin_rows = 0\n", "trigger.min_rows = 0: .*greater than or equal to 1"),
        ("", "[holdout]\nshare = 0\n", "holdout.share = 0: .*greater than 0"),
        ("", "[holdout]\nshare = 1\n", "holdout.share = 1: .*less than 1"),
        # not among the choices
        ("", "[training]\nstrategy = 'newest'\n", "training.strategy = 'newest': .*all"),
        ("", "[training]\nstrategy = 'rolling:0'\n", "training.strategy = 'rolling:0': .*rolling"),
        ("", "[holdout]\nby = 'user'\n", "holdout.by = 'user': .*'entity', 'row' or 'time'"),
        ("", "[trigger]\non = ['label']\n", r"trigger.on = \['label'\]: expected a list of drift, performance, est"),
        ("", "[trigger]\non = 'drift'\n", "trigger.on = 'drift': expected a list of drift, performance, estimated, "),
        ("", "[trigger]\non = ['drift', 'drift']\n", "trigger.on = .*: drift is named more than once"),
        ("", "[trigger]\nconsecutive = 0\n", "trigger.consecutive = 0: .*greater than or equal to 1"),
        (
            "",
            "[trigger]\nmin_importance = -1\n",
            "trigger.min_importance = -1: expected a number from 0 on, or .off. to",
        ),
        ("", "[trigger]\nmin_importance = 'no'\n", "trigger.min_importance = 'no': expected a number from 0 on, or"),
        ("", "[trigger]\nmin_importance = false\n", "trigger.min_importance = False: expected a number from 0 on, or"),
        ("", "[schedule]\ncron = 'daily'\n", "schedule.cron = 'daily': "),
        ("", "[promotion]\nmetric = 'gini'\n", "promotion.metric = 'gini': for binary expected one of auc, accuracy"),
        ("", "[promotion]\nmetric = 'rmse'\n", "promotion.metric = 'rmse': for binary expected one of auc, accuracy"),
        ("", "[promotion]\napproval = 'never'\n", "promotion.approval = 'never': .*'auto', 'always' or 'borderline'"),
        (
            "",
            '[compute]\nrunner = "dask"\n[drift]\nengine = "evidently"\n',
            'compute.runner = "dask" is for the columnar engine: set drift.engine to "columnar" or "auto"',
        ),
        ("", '[compute]\naddress = "tcp://dask:8786"\n', 'compute.address is for runner = "dask" or "ray"'),
        ("", "[promotion]\napproval_expires = 0\n", "promotion.approval_expires = 0: .*greater than or equal to 1"),
        ("", "[promotion]\nmax_latency_ms = 0\n", "promotion.max_latency_ms = 0: .*greater than 0"),
        ("", "[promotion]\nmin_slice_rows = 1\n", "promotion.min_slice_rows = 1: .*greater than or equal to 2"),
        (
            "",
            "[model.search]\n[model.space]\nhidden_layer_sizes = { choices = [[64, [32]], 2020-01-01] }\n",
            r"model.space.hidden_layer_sizes.choices = [^;]*: expected a list of values[^;]*$",
        ),
        # what does not go together
        ("", "[training]\nstrategies = []\n", "training.strategies names none; name what is to compete, or leave"),
        ("", "[training]\nvalidation_share = 0.3\n", "training.validation_share is for several strategies or"),
        ("", "[promotion]\nrefit = true\n", 'promotion.refit = true needs holdout.by = "time"; rows held out by row'),
        ('entity = "user"', "[promotion]\nrefit = true\n", "rows held out by entity are never trained on, by rule"),
        ('entity = "user"', "[promotion]\nslices = ['user']\n", "promotion.slices names user; expected columns"),
        ("", "[holdout]\nby = 'entity'\n", 'holdout.by = "entity" needs entity = "<column>"'),
        ("", "[holdout]\nby = 'time'\n", 'holdout.by = "time" needs timestamp = "<column>"'),
        ('entity = "left"', "", "target, entity and timestamp name left, left: expected a column of its own for each"),
        ('entity = ""', "", "entity = '': String should have at least 1 character"),
        ("", "[features]\nnumeric = []\n", "features names no column"),
        ("", "[features]\nnumeric = ['fee', 'fee']\n", "features lists fee more than once"),
        ("", "[features]\nnumeric = ['fee']\ncategorical = ['fee']\n", "features lists fee more than once"),
        ("", "[features]\nnumeric = ['left']\n", "target 'left' is also listed as a feature"),
        ('entity = "user"', "[features]\ncategorical = ['user']\n", "entity 'user' is also listed as a feature"),
        ('timestamp = "at"', "[features]\nnumeric = ['at']\n", "timestamp 'at' is also listed as a feature"),
        ("", "[windows]\nsql = 'sqlite://'\n", "windows.*sql needs table and period"),
        ("", "[windows]\ntable = 't'\n", "windows.*table and period need sql"),
        (
            "",
            "[windows]\nsql = 'sqlite://'\ntable = 't'\nperiod = 'p'\nlabels = 'labels'\n",
            "windows.*labels is a folder",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_was_expected(top: str, sections: str, message: str) -> None:
    with pytest.raises(ContractError, match=rf"^loop\.toml: .*{message}"):
        minimal(top, sections)


def test_two_candidates_of_one_class_name_are_refused_with_what_tells_candidates_apart() -> None:
    two = "".join(f"[[model.candidates]]\nestimator = '{package}.Forest'\n" for package in ("a", "b"))
    with pytest.raises(ContractError, match=r"names Forest more than once: candidates are told apart by the name of"):
        contract.parse(MINIMAL.partition("[model]")[0] + two)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "churn"', "", "name is missing; it is required"),
        ('target = "left"', "", "target is missing; it is required"),
        ('task = "binary"', "", "task is missing; it is required"),
        ("[model]\n", "[model_]\n", "model is missing; it is required"),
        ('name = "churn"', 'name = "my churn"', "name = 'my churn': "),
        ('name = "churn"', 'name = "../churn"', "name = '../churn': "),
        ('task = "binary"', 'task = "ranking"', "task = 'ranking': .*'binary', 'multiclass' or 'regression'"),
        ("sklearn.linear_model.LogisticRegression", "LogisticRegression", "model.estimator = .*dotted import path"),
        ("sklearn.linear_model.LogisticRegression", "os.system('x')", "model.estimator = .*dotted import path"),
    ],
)
def test_what_every_loop_needs_is_checked(old: str, new: str, message: str) -> None:
    with pytest.raises(ContractError, match=rf"^loop\.toml: .*{message}"):
        contract.parse(MINIMAL.replace(old, new, 1))


def test_a_regression_has_no_positive_label() -> None:
    with pytest.raises(ContractError, match='positive is for task = "binary" only'):
        minimal("positive = true", task="regression")


def test_a_regression_names_its_own_metrics() -> None:
    with pytest.raises(ContractError, match=r"promotion.metric = 'auc': for regression expected one of rmse, mse, mae"):
        minimal(sections="[promotion]\nmetric = 'auc'\n", task="regression")


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ContractError, match=r"taget is not a known key.*; |holdout\.share = 2") as caught:
        minimal("taget = 1", "[holdout]\nshare = 2\n")
    assert "holdout.share = 2" in str(caught.value)
    assert "taget" in str(caught.value)


@pytest.mark.parametrize(
    "sections",
    ["[drift]\nthreshold = '0.3'\n", "[trigger]\ncooldown = true\n", "[promotion]\ndelta = '0.01'\n"],
)
def test_a_value_of_another_type_is_not_converted_in_silence(sections: str) -> None:
    with pytest.raises(ContractError, match=r"^loop\.toml: (drift|trigger|promotion)\.\w+ = "):
        minimal(sections=sections)


def test_a_positive_label_of_1_0_is_not_taken_for_true() -> None:
    with pytest.raises(ContractError, match=r"positive.* = 1\.0"):
        minimal("positive = 1.0")


def test_bad_toml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text('name = "churn"\ntask = \n')
    with pytest.raises(ContractError, match=rf"{re.escape(str(tmp_path))}/loop.toml is not valid TOML: .*line 2"):
        contract.load(tmp_path)


def test_a_key_given_twice_is_bad_toml() -> None:
    with pytest.raises(ContractError, match="is not valid TOML"):
        minimal('name = "again"')


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"loop.toml does not exist. Write one with `driftloop init "):
        contract.load(tmp_path)


def test_a_folder_in_its_place_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").mkdir()
    with pytest.raises(ContractError, match=r"loop.toml cannot be read: Is a directory"):
        contract.load(tmp_path)


def test_a_file_that_is_not_utf8_is_a_contract_error(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_bytes(MINIMAL.replace("left", "départ").encode("latin-1"))
    with pytest.raises(ContractError, match=r"loop\.toml"):
        contract.load(tmp_path)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_text(MINIMAL + "nothing = 1\n")
    with pytest.raises(ContractError, match=rf"^{re.escape(str(tmp_path))}/loop.toml: model.nothing is not a known"):
        contract.load(tmp_path)


def test_features_left_out_are_asked_for_with_what_to_do() -> None:
    with pytest.raises(ContractError, match="run `driftloop init`"):
        _ = minimal().columns


CHANGES = [
    ("streamflow-churn", "other"),
    ("churn_label", "gone"),
    ("positive = true", "positive = false"),
    ("user_id", "account"),
    ("event_time", "at"),
    ("s3://bucket/windows", "s3://bucket/other"),
    ('labels = "labels"', 'labels = "late"'),
    ("monthly_fee", "fee"),
    ("net_service", "net"),
    ("RandomForestClassifier", "ExtraTreesClassifier"),
    ("n_estimators = 300", "n_estimators = 301"),
    ("rolling:3", "rolling:4"),
    ('by = "time"', 'by = "row"'),
    ("share = 0.25", "share = 0.26"),
    ("threshold = 0.5", "threshold = 0.51"),
    ('"previous"', '"training"'),
    (', "performance"', ""),
    ("max_drop = 0.1", "max_drop = 0.2"),
    ("cooldown = 2", "cooldown = 3"),
    ("min_rows = 100", "min_rows = 101"),
    ("log_loss", "brier"),
    ("delta = 0.02", "delta = 0.03"),
    ("confidence = 0", "confidence = 0.5"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_the_digest_changes_with_every_key(old: str, new: str) -> None:
    assert old in FULL
    assert contract.parse(FULL).digest != contract.parse(FULL.replace(old, new)).digest


LOGGED = """
[features]
numeric = ["fee"]
[windows]
source = "log"
"""


def test_the_digest_changes_with_where_windows_come_from_and_how_the_log_is_cut() -> None:
    files = minimal(sections='[features]\nnumeric = ["fee"]')
    log, days = minimal(sections=LOGGED), minimal(sections=LOGGED + 'calendar = "day"')
    assert len({files.digest, log.digest, days.digest}) == 3


def test_the_digest_does_not_change_with_how_the_api_answers() -> None:
    assert minimal().digest == minimal(sections='[serving]\nlog = "parquet"\nmax_rows = 5').digest


def test_the_log_may_have_label_files_beside_it() -> None:
    loop = minimal(sections=LOGGED + 'calendar = "week"\nlabels = "labels"')
    assert (loop.windows.source, loop.windows.calendar, loop.windows.labels) == ("log", "week", "labels")


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (LOGGED + 'sql = "sqlite:///x.db"\ntable = "t"\nperiod = "p"', 'source = "log" takes windows from the pred'),
        ('[windows]\ncalendar = "day"', 'calendar cuts the prediction log into windows; it needs source = "log"'),
        ('[windows]\nsource = "log"', r'windows.source = "log" needs \[features\]'),
        (LOGGED + '[serving]\nlog = "off"', 'needs a prediction log, and serving.log = "off" keeps none'),
        (LOGGED + '[promotion]\nslices = ["region", "fee"]', 'promotion.slices names region: windows.source = "log"'),
        ('[windows]\nsource = "logs"', "windows.source = 'logs': Input should be 'files' or 'log'"),
        ('[serving]\nlog = "mongodb"', "serving.log = 'mongodb': Input should be 'sqlite', 'postgresql', 'parquet' or"),
        ('[serving]\ndurability = "always"', "serving.durability = 'always': Input should be 'batch' or 'sync'"),
        ("[serving]\nflush_ms = 0", "serving.flush_ms = 0: Input should be greater than 0"),
        ("[serving]\nretention_days = 0", "serving.retention_days = 0: Input should be greater than or equal to 1"),
        ("[serving]\nmax_spool_mb = 0.0", "serving.max_spool_mb = 0.0: Input should be greater than 0"),
        ("[serving]\nmax_rows = 100001", "serving.max_rows = 100001: Input should be less than or equal to 100000"),
        ("[serving]\nqueue = 0", "serving.queue = 0: Input should be greater than or equal to 1"),
        ("[serving]\ntimeout_s = 0", "serving.timeout_s = 0: Input should be greater than 0"),
        ("[serving]\nlogs = 1", "serving.logs is not a known key"),
    ],
)
def test_what_cannot_be_served_or_logged_is_refused(sections: str, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        minimal(sections=sections)


@pytest.mark.parametrize(("old", "new"), [("0 6 1 * *", "0 7 1 * *"), ("Europe/Berlin", "UTC")])
def test_the_digest_does_not_change_with_the_schedule(old: str, new: str) -> None:
    assert contract.parse(FULL).digest == contract.parse(FULL.replace(old, new)).digest


def test_the_digest_of_the_same_text_is_the_same_and_comments_do_not_count() -> None:
    assert contract.parse(FULL).digest == contract.parse("# a note\n" + FULL).digest


@pytest.mark.parametrize("value", ["inf", "-inf", "1e400", "true", "[1, 2]", '"l2"'])
def test_a_loop_survives_being_written_as_json(value: str) -> None:
    loop = contract.parse(FULL.replace("n_estimators = 300", f"C = {value}"))
    assert Loop.model_validate_json(loop.model_dump_json(exclude_unset=True)) == loop


@pytest.mark.parametrize("line", ['strategy = "rollin:3"', 'strategies = ["all", "newest"]'])
def test_an_unknown_strategy_is_told_those_there_are(line: str) -> None:
    with pytest.raises(ContractError, match=r'= \'\w+(:3)?\': expected "all", "latest", .* or "auto"$'):
        contract.parse(FULL.replace('strategy = "rolling:3"', line))


def test_keys_that_exclude_each_other_are_told_without_their_section_s_text() -> None:
    twice = "[[model.candidates]]\nestimator = 'sklearn.svm.SVC'\n" * 2
    text = FULL.split("[model]", maxsplit=1)[0] + twice + "[training]" + FULL.split("[training]")[1]
    with pytest.raises(ContractError, match=r"^loop\.toml: model: \[\[model\.candidates\]\] names SVC more than once"):
        contract.parse(text)
