#!/usr/bin/env bash
# Ten tenants onboarded from one file into a running proxy, each with the OpenAI Python SDK, one of them abusive. Called by
# run.sh, which installs the client.
#
#   E2E_TENANT_SECONDS=120 tests/e2e/run.sh        how long each of the three phases takes; 10 by default
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
remora=${REMORA:-$root/target/debug/remora}
python=$root/target/e2e/venv/bin/python
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
    tail -n 40 "$scratch"/*.log >&2
    exit 1
}

mapfile -t ports < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(7)]
print(*(s.getsockname()[1] for s in held), sep="\n")')
data=http://127.0.0.1:${ports[1]}
admin=http://127.0.0.1:${ports[2]}

"$remora" simulate --listen "127.0.0.1:${ports[0]}" >"$scratch/simulate.log" 2>&1 &
pids+=($!)
cat >"$scratch/remora.toml" <<EOF
[server]
passthrough = false
[[upstream]]
api_key_env = "UPSTREAM_KEY"
[cache.audit]
rate = 0.0
EOF
export UPSTREAM_KEY=sk-upstream INITECH_OPENAI_KEY=sk-initech
(cd "$scratch" && exec "$remora" serve --config remora.toml --listen "127.0.0.1:${ports[1]}" \
    --admin-listen "127.0.0.1:${ports[2]}" --rem-listen "127.0.0.1:${ports[3]}" \
    --upstream "http://127.0.0.1:${ports[0]}/v1") >"$scratch/serve.log" 2>&1 &
pids+=($!)
# Another proxy, which knows nobody: what the tenth tenant asks there costs the machine and not this proxy.
elsewhere=http://127.0.0.1:${ports[4]}
mkdir "$scratch/elsewhere"
(cd "$scratch/elsewhere" && exec "$remora" serve --config ../remora.toml --listen "127.0.0.1:${ports[4]}" \
    --admin-listen "127.0.0.1:${ports[5]}" --rem-listen "127.0.0.1:${ports[6]}" \
    --upstream "http://127.0.0.1:${ports[0]}/v1") >"$scratch/elsewhere.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do
    "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "$admin/readyz" 2>/dev/null && break
    sleep 0.1
done

"$remora" tenant apply "$root/config/examples/tenants.toml" --admin "$admin" --dry-run || fail "the dry run failed"
"$remora" tenant apply "$root/config/examples/tenants.toml" --admin "$admin" --json >"$scratch/secrets.json" || fail "apply failed"
"$remora" tenant apply "$root/config/examples/tenants.toml" --admin "$admin" --json >"$scratch/again.json"
"$python" - "$scratch/again.json" <<'PYTHON' || fail "applied twice, it changed something"
import json, sys
again = json.load(open(sys.argv[1]))
assert not again["secrets"] and {change["action"] for change in again["changes"]} == {"unchanged"}, again
PYTHON

# Onboarded, and not open for business yet.
"$remora" tenant enable tyrell --admin "$admin" || fail "tyrell cannot be enabled"

"$python" "$here/tenants.py" "$data" "$scratch/remora.db" "$scratch/secrets.json" "${E2E_TENANT_SECONDS:-10}" "$elsewhere" || fail "some cases failed"
"$remora" audit verify --admin "$admin"
