"""What people are told of, once an event and short enough for a phone. Sent through Apprise."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftloop.contract import Loop
from driftloop.entry import Entry, Kind
from driftloop.errors import DriftloopError
from driftloop.metrics import written
from driftloop.report import Json
from driftloop.retrain import FINDINGS

log = logging.getLogger("driftloop.alerts")
VARIABLE = re.compile(r"\$\{(\w+)\}")
LONGEST = 300  # characters; a phone shows about as many without opening


@dataclass(frozen=True)
class Alert:
    """``event`` is drift, promotion, approval, rollback, quarantine, failure or serving."""

    event: str
    title: str
    text: str


def alert_of(entry: Entry) -> Alert | None:
    """What a row of the ledger is worth telling; None for what can wait until somebody looks."""
    report, name = entry.report, f"{entry.loop} {entry.window}"
    match entry.kind:
        case Kind.QUARANTINE:
            return _alert("quarantine", f"{name}: quarantined", entry.reason)
        case Kind.ROLLBACK | Kind.ADOPTION:
            event = "rollback" if entry.kind is Kind.ROLLBACK else "promotion"
            return _alert(event, f"{entry.loop}: version {entry.version} is champion", entry.reason)
        case Kind.VERDICT if report:
            return _of_verdict(name, report)
        case Kind.PROMOTION if report:
            by = "" if entry.actor.endswith("_flow") else f" by {entry.actor}"
            return _alert(
                "promotion", f"{entry.loop}: version {entry.version} promoted{by}", _scores(report["decision"])
            )
        case Kind.ASK if report:
            text = f"{_scores(report['decision'])}. driftloop approve or reject."
            return _alert("approval", f"{entry.loop}: version {entry.version} waits for you", text)
    return None


def _of_verdict(name: str, report: Json) -> Alert | None:
    """What shows, and in as many windows in a row as loop.toml asks for; whether or not a training came of it."""
    retrain, drift = report["retrain"], report["drift"]
    trigger = retrain.get("trigger")
    if trigger is None or not trigger["on"] or trigger["consecutive"] < trigger["needed"]:
        return None
    lasted = trigger.get("lasted", trigger["on"])  # reports of earlier versions do not tell them apart
    share = f"share {trigger['share']:.2f}, limit {drift['threshold']:g}: " if "drift" in lasted else ""
    shown = ", ".join(FINDINGS[finding] for finding in lasted)
    title = "drift" if "drift" in lasted else FINDINGS[lasted[0]]
    names = ", ".join(retrain["columns"]) or shown
    return _alert("drift", f"{name}: {title}", f"{share}{names}. {retrain['reason']}.")


def failure(loop: str, run: str, error: BaseException) -> Alert:
    """Our own errors are written for people; the text of any other may hold whatever it was about."""
    text = str(error) if isinstance(error, DriftloopError) else f"{type(error).__name__}, see the run's log."
    return _alert("failure", f"{loop}: {run} failed", text)


def serving_trouble(loop: str, message: str) -> Alert:
    return _alert("serving", f"{loop}: serving trouble", message)


def live_drift(loop: str, reasons: Sequence[str]) -> Alert:
    """What `driftloop monitor --live` found beyond its limits."""
    return _alert("drift", f"{loop}: the last requests drift", f"{'; '.join(reasons)}.")


def addresses(loop: Loop, env: Mapping[str, str]) -> list[str]:
    """The addresses of loop.toml and of DRIFTLOOP_ALERT_URLS (separated by blanks), ``${NAME}`` filled in from ``env``.

    One whose variable is not set is left out, with its name in the log: the address may hold a secret.
    """
    return filled([*loop.alerts.urls, *env.get("DRIFTLOOP_ALERT_URLS", "").split()], env)


def filled(urls: Sequence[str], env: Mapping[str, str]) -> list[str]:
    found = []
    for number, url in enumerate(dict.fromkeys(urls), 1):  # loop.toml's are in a child's environment once more
        if missing := [name for name in VARIABLE.findall(url) if not env.get(name)]:
            log.warning("alert.address_left_out number=%d unset=%s", number, ",".join(missing))
        else:
            found.append(VARIABLE.sub(lambda match: env[match[1]], url))
    return found


def send(alert: Alert, urls: Sequence[str]) -> bool:
    """Whether every address took it. Never raises: an alert that cannot be sent must not end what it tells of."""
    if not urls:
        return True
    try:
        import apprise

        # these name addresses, which hold secrets
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        logging.getLogger("urllib3").setLevel(logging.INFO)
        notifier = apprise.Apprise()
        known = [notifier.add(url) for url in urls]
        sent = bool(notifier.notify(title=alert.title, body=alert.text)) and all(known)
    except Exception as error:  # noqa: BLE001  # the boundary to other people's services; its text may hold an address
        log.warning("alert.failed event=%s error=%s", alert.event, type(error).__name__)
        return False
    if not sent:
        log.warning("alert.not_taken event=%s addresses=%d understood=%d", alert.event, len(urls), sum(known))
    return sent


def _alert(event: str, title: str, text: str) -> Alert:
    return Alert(event, title, text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def _scores(decision: Json) -> str:
    own = f"{decision['metric']} {written(decision['candidate'])}"
    against = "" if decision["champion"] is None else f" against {written(decision['champion'])}"
    return f"{decision['reason']}, {own}{against} on {decision['holdout_rows']:,} rows"
