#!/usr/bin/env bash
# The REM sidecar with the official MCP client and a tool-call loop of the OpenAI SDK. Called by run.sh, which installs both.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
remora=${REMORA:-$root/target/debug/remora}
python=${PYTHON:-$root/target/e2e/venv/bin/python}
scratch=$(mktemp -d)
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap finish EXIT

mapfile -t ports < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in held), sep="\n")')

"$remora" simulate --listen "127.0.0.1:${ports[0]}" >"$scratch/simulate.log" 2>&1 &
pids+=($!)
(cd "$scratch" && exec "$remora" serve --listen "127.0.0.1:${ports[1]}" --admin-listen "127.0.0.1:${ports[2]}" \
    --rem-listen "127.0.0.1:${ports[3]}" --upstream "http://127.0.0.1:${ports[0]}/v1") >"$scratch/serve.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do
    "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "http://127.0.0.1:${ports[2]}/readyz" 2>/dev/null && break
    sleep 0.1
done
"$python" "$here/rem.py" "http://127.0.0.1:${ports[1]}" "http://127.0.0.1:${ports[3]}" || {
    tail -n 40 "$scratch"/*.log >&2
    exit 1
}
