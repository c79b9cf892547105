#!/usr/bin/env bash
# Real SDK clients against Remora: starts the simulated upstream and the proxy on free ports, runs both comparisons, stops all.
#
#   tests/e2e/run.sh            needs target/debug/remora (or REMORA=path), python3, node 18 or newer with npm; and
#                               DATABASE_URL and REDIS_URL, as scripts/services.sh start gives them, for replicas.sh and
#                               dashboards.sh
#   E2E_PROXY=no tests/e2e/run.sh    the simulator against itself: checks the cases, not the proxy
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
remora=${REMORA:-$root/target/debug/remora}
tools=$root/target/e2e
scratch=$(mktemp -d)
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    echo "$1" >&2
    for log in "$scratch"/*.log; do
        [ -s "$log" ] && { echo "--- $(basename "$log")" >&2; tail -n 40 "$log" >&2; }
    done
    exit 1
}

# So many different free ports, one a line. Another program may take one in between; the start then fails and says so.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held), sep="\n")
PYTHON
}

# wait_for URL PID NAME: until the URL answers 200; gives up when the process ended or after 30 s.
wait_for() {
    for _ in $(seq 300); do
        kill -0 "$2" 2>/dev/null || fail "$3 ended before it was ready"
        if python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "$1" 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    fail "$3 did not become ready at $1"
}

# The clients, installed once and again when their pins change.
install_clients() {
    mkdir -p "$tools/node"
    local stamp=$tools/python.stamp
    if ! cmp -s "$here/requirements.txt" "$stamp"; then
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
        cp "$here/requirements.txt" "$stamp"
    fi
    stamp=$tools/node.stamp
    if ! cmp -s "$here/package-lock.json" "$stamp"; then
        cp "$here/package.json" "$here/package-lock.json" "$tools/node/"
        (cd "$tools/node" && npm ci --no-audit --no-fund --loglevel=error --omit-lockfile-registry-resolved)
        cp "$here/package-lock.json" "$stamp"
    fi
    # Modules are looked up from where the script lies.
    cp "$here/sdk_compare.mjs" "$tools/node/"
}

[ -x "$remora" ] || fail "no program at $remora; run cargo build first"
install_clients
mapfile -t ports < <(free_ports 4)
direct=http://127.0.0.1:${ports[0]}

"$remora" simulate --listen "127.0.0.1:${ports[0]}" >"$scratch/simulate.log" 2>&1 &
pids+=($!)
wait_for "$direct/stats" "$!" "remora simulate"

proxy=$direct
if [ "${E2E_PROXY:-yes}" = yes ]; then
    proxy=http://127.0.0.1:${ports[1]}
    (cd "$scratch" && exec "$remora" serve --listen "127.0.0.1:${ports[1]}" --admin-listen "127.0.0.1:${ports[2]}" \
        --rem-listen "127.0.0.1:${ports[3]}" --upstream "$direct/v1" --store "sqlite://$scratch/remora.db") >"$scratch/serve.log" 2>&1 &
    pids+=($!)
    wait_for "http://127.0.0.1:${ports[2]}/readyz" "$!" "remora serve"
fi

status=0
echo "== Python: OpenAI SDK, LangChain"
"$tools/venv/bin/python" "$here/sdk_compare.py" "$direct/v1" "$proxy/v1" || status=1
echo "== Python: Anthropic SDK, OpenAI SDK on Responses"
admin=()
[ "$proxy" = "$direct" ] || admin=("http://127.0.0.1:${ports[2]}")
"$tools/venv/bin/python" "$here/sdk_dialects.py" "$direct/v1" "$proxy/v1" "${admin[@]}" || status=1
echo "== Node: OpenAI SDK, Vercel AI SDK"
node "$tools/node/sdk_compare.mjs" "$direct/v1" "$proxy/v1" || status=1
[ "$status" = 0 ] || fail "some cases failed"
if [ "${E2E_PROXY:-yes}" = yes ]; then
    REMORA=$remora "$here/replicas.sh"
    echo "== Python: ten tenants, one of them abusive"
    REMORA=$remora "$here/tenants.sh"
    REMORA=$remora "$here/dashboards.sh"
    echo "== Python: MCP client, OpenAI SDK with tools"
    REMORA=$remora "$here/rem.sh"
fi
