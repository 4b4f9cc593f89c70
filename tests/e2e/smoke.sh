#!/usr/bin/env bash
# The whole loop on a running stack: months of data/streamflow arrive one at a time until the version that the API
# serves has changed, without a restart of the API. Takes about two minutes on a fresh stack.
#   docker compose up --build --wait && tests/e2e/smoke.sh
# COMPOSE names the compose command with its options, default `docker compose`, or `docker-compose` where that is absent.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly DEADLINE=900 START=180 STEP=240 SWAP=60   # seconds: all of it, being healthy, one month, one swap
readonly CUSTOMER='{"months_active": 12, "monthly_fee": 89.5, "watch_hours_30d": 21.0, "avg_session_mins_7d": 29.0,
  "unique_devices_30d": 2, "skips_7d": 6, "rebuffer_events_7d": 4, "failed_payments_90d": 1, "support_tickets_90d": 2,
  "ticket_avg_resolution_hrs_90d": 11.0, "paperless_billing": true, "plan_stream_tv": true, "plan_stream_movies": null,
  "net_service": "Fiber optic"}'

fail() { echo "smoke: $*" >&2; exit 1; }
field() { sed -nE "s/.*\"$1\": ?\"?([^\",}]+).*/\1/p"; }   # of one line of JSON

if [ -n "${COMPOSE:-}" ]; then read -ra compose <<<"$COMPOSE"
elif docker compose version >/dev/null 2>&1; then compose=(docker compose)
else compose=(docker-compose); fi

flows=$("${compose[@]}" ps -q schedules) api=$("${compose[@]}" ps -q api)
if [ -z "$flows" ] || [ -z "$api" ]; then fail "the stack is not up; start it with: ${compose[*]} up -d"; fi
url=http://$("${compose[@]}" port api 8000)
loop=$(docker inspect -f '{{range .Mounts}}{{if eq .Destination "/loop"}}{{.Source}}{{end}}{{end}}' "$flows")
image=$(docker inspect -f '{{.Image}}' "$flows")
[ -f "$loop/generator.toml" ] || fail "$loop has no generator.toml; the months of this test come from one"

ask() { curl --silent --show-error --max-time 10 "$@"; }
served() { ask "$url/ready" | field version; }   # empty while no model is loaded
started() { docker inspect -f '{{.State.StartedAt}}' "$api"; }
in_flows() { timeout "$STEP" "${compose[@]}" exec -T schedules python - "$@"; }

deliver() { # MONTH: as the user who runs this test, since the stack itself only reads the folder
  docker run --rm --network none --user "$(id -u):$(id -g)" -v "$loop:/delivery" "$image" python -c '
import sys
from pathlib import Path
from driftloop import generator
folder = Path("/delivery")
next(d for d in generator.deliveries(generator.load(folder)) if d.window == sys.argv[1]).write(folder)' "$1"
}

remaining() { # the months after the newest that the ledger knows
  in_flows <<'PY'
import os
from pathlib import Path
from driftloop import contract, generator
from driftloop.ledger import Ledger
loop = Path("/loop")
entries = Ledger(os.environ["DRIFTLOOP_LEDGER_URL"], contract.load(loop).name).entries()
known = max((entry.window for entry in entries), default="")
print(*[month for month in generator.load(loop).ids() if month > known])
PY
}

schedule() { # MONTH: as a run of the deployment, which the serving process has to pick up
  in_flows "$1" <<'PY'
import sys
from pathlib import Path
from prefect.deployments import run_deployment
from driftloop import contract
name = f"monitor_flow/{contract.load(Path('/loop')).name}"
run = run_deployment(name, parameters={"window": sys.argv[1]}, timeout=180)
print(f"{sys.argv[1]}  run of {name}: {run.state.name}", flush=True)
sys.exit(0 if run.state.is_completed() else "the run did not complete; see the log of schedules")
PY
}

monitor() { # MONTH
  in_flows "$1" <<'PY'
import json, subprocess, sys
done = subprocess.run(["driftloop", "monitor", "/loop", "--window", sys.argv[1], "--json"], stdout=subprocess.PIPE)
if done.returncode:
    sys.exit(f"driftloop monitor ended with {done.returncode}")
report = json.loads(done.stdout)
drift, decision, champion = report["drift"], report["decision"], report["champion"]
says = [f"drift share {drift['share']:.3f}"] if drift else []
says.append(report["retrain"]["reason"])
if decision:
    says.append(f"{decision['outcome']}: {decision['reason']}")
print(f"{sys.argv[1]}  {'; '.join(says)}; champion {champion['version'] if champion else 'none'}")
PY
}

await_swap() { # VERSION: until the API serves it
  local until=$((SECONDS + SWAP))
  until [ "$(served)" = "$1" ]; do
    ((SECONDS < until)) || fail "the API still serves version $(served) after $SWAP s; the champion is $1"
    sleep 0.5
  done
}

predict() {
  local answer
  answer=$(ask --fail --json "$CUSTOMER" "$url/predict") || fail "POST /predict failed"
  [ "$(field version <<<"$answer")" = "$1" ] || fail "POST /predict was answered by another version: $answer"
  echo "         the API answers with version $1: churn probability $(field probability <<<"$answer")"
}

for container in "$flows" "$api"; do   # docker-compose 1.29 has no --wait
  until [ "$(docker inspect -f '{{.State.Health.Status}}' "$container")" = healthy ]; do
    ((SECONDS < START)) || fail "$(docker inspect -f '{{.Name}}' "$container") is not healthy after $START s"
    sleep 1
  done
done
ask --fail -o /dev/null "$url/health" || fail "$url/health does not answer 200"
first=$(served) up_since=$(started)
echo "API at $url, alive; serves ${first:+version }${first:-no model yet}"

months=$(remaining) || fail "the ledger cannot be read"
[ -n "$months" ] || fail "all months were monitored before; start anew with: ${compose[*]} down --volumes"

for month in $months; do
  ((SECONDS < DEADLINE)) || fail "no other version after $DEADLINE s"
  deliver "$month"
  if [ "$month" = "${months%% *}" ]; then schedule "$month"; fi
  line=$(monitor "$month") || fail "monitoring $month failed"
  echo "$line"
  champion=${line##*; champion }
  if [ "$champion" = none ] || [ "$champion" = "${now:-$first}" ]; then continue; fi
  await_swap "$champion"
  predict "$champion"
  now=$champion
  if [ -z "$first" ]; then first=$champion; continue; fi
  code=$(ask -o /dev/null -w '%{http_code}' --json '{"months_active": "long"}' "$url/predict")
  [ "$code" = 422 ] || fail "wrong input was answered with $code, not 422"
  [ "$(started)" = "$up_since" ] || fail "the API was restarted on the way"
  echo "passed in $SECONDS s: version $first, then $champion, by the same API process"
  exit 0
done
fail "no months are left and the version never changed from ${first:-none}; start anew with: ${compose[*]} down --volumes"
