#!/usr/bin/env bash
# The Grafana dashboards and Prometheus rules against the running program: two replicas on one PostgreSQL and one Redis, traffic
# that moves their series, a real Prometheus that scrapes them, and every query of every panel asked of it. Called by run.sh.
#
#   tests/e2e/dashboards.sh                    needs what run.sh needs; makes the rest below target/e2e
#   E2E_DASHBOARD_SECONDS=300 E2E_RENDER=docs/img tests/e2e/dashboards.sh
#                                              longer traffic; and pictures of the dashboards (scripts/render_dashboards.py)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
remora=${REMORA:-$root/target/debug/remora}
tools=$root/target/e2e
# What is measured each minute must have been.
seconds=${E2E_DASHBOARD_SECONDS:-75}

for name in DATABASE_URL REDIS_URL; do
    [ -n "${!name:-}" ] || {
        # shellcheck disable=SC2016
        echo "$name is not set: run "'`eval "$(scripts/services.sh start)"`'" first" >&2
        exit 1
    }
done
psql=psql
command -v psql >/dev/null || psql=${REMORA_PG_BIN:-}/psql
command -v "$psql" >/dev/null || { echo "psql is not there: install a PostgreSQL client" >&2; exit 1; }
eval "$("$root/scripts/services.sh" prometheus)"
prometheus=$REMORA_PROMETHEUS_BIN/prometheus promtool=$REMORA_PROMETHEUS_BIN/promtool

mkdir -p "$tools"
if ! cmp -s "$here/dashboards.requirements.txt" "$tools/dashboards.stamp"; then
    python3 -m venv "$tools/dashboards"
    "$tools/dashboards/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/dashboards.requirements.txt"
    cp "$here/dashboards.requirements.txt" "$tools/dashboards.stamp"
fi
export PYTHONDONTWRITEBYTECODE=1
python=$tools/dashboards/bin/python

echo "== dashboards: as generated, and as Grafana's schema wants them"
"$python" "$root/scripts/dashboards/build.py" --check
"$python" "$here/dashboards_lint.py"
echo "== rules: their syntax and their unit tests"
"$promtool" check rules "$root"/dashboards/{rules,alerts}.yml
(cd "$root/dashboards" && "$promtool" test rules rules.test.yml alerts.test.yml)

scratch=$(mktemp -d)
database=remora_e2e_dashboards_$$
pids=()
sql() { "$psql" -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -c "$1" >/dev/null; }

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    echo "$1" >&2
    for log in "$scratch"/*.log; do
        [ -s "$log" ] && { echo "--- $(basename "$log")" >&2; tail -n 20 "$log" >&2; }
    done
    exit 1
}

# wait_for URL PID NAME: until the URL answers 200; gives up when the process ended or after 60 s.
wait_for() {
    for _ in $(seq 600); do
        kill -0 "$2" 2>/dev/null || fail "$3 ended before it was ready"
        if "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "$1" 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    fail "$3 did not become ready at $1"
}

mapfile -t ports < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
print(*(s.getsockname()[1] for s in held), sep="\n")')
local=http://127.0.0.1
upstream=$local:${ports[0]} monitor=$local:${ports[1]}

sql "CREATE DATABASE $database TEMPLATE template0 ENCODING 'UTF8'"
store=$("$python" -c '
import sys, urllib.parse as u
print(u.urlunsplit(u.urlsplit(sys.argv[1])._replace(path="/" + sys.argv[2])))' "$DATABASE_URL" "$database")
"$python" "$here/dashboards_traffic.py" upstream "${ports[0]}" >"$scratch/upstream.log" 2>&1 &
pids+=($!)
wait_for "$upstream/v1/models" "$!" "the upstream"

"$python" "$here/dashboards_traffic.py" config "$upstream" "$seconds" >"$scratch/remora.toml"
export UPSTREAM_KEY=sk-upstream HOOK_SECRET=a-secret-that-signs-what-is-posted
for key in WEB BATCH HELPDESK APP RESEARCH TRIAL FREE INDEXER; do
    export "KEY_$key=rk-${key,,}-0123456789abcdef"
done
for replica in a b; do
    [ "$replica" = a ] && at=2 || at=5
    mkdir "$scratch/$replica"
    (cd "$scratch/$replica" && exec "$remora" serve --config ../remora.toml --listen "127.0.0.1:${ports[at]}" \
        --admin-listen "127.0.0.1:${ports[at + 1]}" --rem-listen "127.0.0.1:${ports[at + 2]}" \
        --store "$store" --redis "$REDIS_URL") >"$scratch/$replica.log" 2>&1 &
    pids+=($!)
    wait_for "$local:${ports[at + 1]}/readyz" "$!" "replica $replica"
done

cat >"$scratch/prometheus.yml" <<EOF
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ["$root/dashboards/rules.yml", "$root/dashboards/alerts.yml"]
scrape_configs:
  - job_name: remora
    static_configs:
      - targets: ["127.0.0.1:${ports[3]}", "127.0.0.1:${ports[6]}"]
EOF
"$prometheus" --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/tsdb" \
    --web.listen-address="127.0.0.1:${ports[1]}" --log.level=warn >"$scratch/prometheus.log" 2>&1 &
pids+=($!)
wait_for "$monitor/-/ready" "$!" "Prometheus"

echo "== traffic for $seconds s"
began=$(date +%s)
"$python" "$here/dashboards_traffic.py" clients "$seconds" "$local:${ports[2]}" "$local:${ports[5]}" || fail "the traffic failed"
ended=$(date +%s)

echo "== every query of every panel"
"$python" "$here/dashboards_queries.py" "$monitor" "$began" "$ended" || fail "some queries failed"
if [ -n "${E2E_RENDER:-}" ]; then
    [ -x "$tools/render/bin/python" ] || python3 -m venv "$tools/render"
    "$tools/render/bin/pip" install --quiet --disable-pip-version-check -r "$root/scripts/render_dashboards.requirements.txt"
    "$tools/render/bin/python" "$root/scripts/render_dashboards.py" "$monitor" "$began" "$ended" "$E2E_RENDER"
fi
