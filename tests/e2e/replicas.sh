#!/usr/bin/env bash
# Two replicas on one PostgreSQL and one Redis, with the OpenAI Python SDK as the client; one replica is killed and started
# again in the middle. Called by run.sh, which installs the client.
#
#   eval "$(scripts/services.sh start)"; tests/e2e/run.sh
#
# Needs DATABASE_URL and REDIS_URL, and psql to make a database of its own there, which is dropped at the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
remora=${REMORA:-$root/target/debug/remora}
python=$root/target/e2e/venv/bin/python

for name in DATABASE_URL REDIS_URL; do
    [ -n "${!name:-}" ] || {
        # shellcheck disable=SC2016
        echo "$name is not set: run "'`eval "$(scripts/services.sh start)"`'" first" >&2
        exit 1
    }
done
[ -x "$python" ] || { echo "no client in $root/target/e2e; run tests/e2e/run.sh, which installs it" >&2; exit 1; }
psql=psql
# The server's own program does as well.
command -v psql >/dev/null || psql=${REMORA_PG_BIN:-}/psql
command -v "$psql" >/dev/null || { echo "psql is not there: install a PostgreSQL client" >&2; exit 1; }

scratch=$(mktemp -d)
database=remora_e2e_$$
sql() { "$psql" -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -c "$1" >/dev/null; }

finish() {
    for file in "$scratch"/*.pid; do
        [ ! -e "$file" ] || kill "$(cat "$file")" 2>/dev/null || true
    done
    for file in "$scratch"/*.pid; do
        for _ in $(seq 100); do
            [ -e "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null || break
            sleep 0.1
        done
    done
    sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
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

mapfile -t ports < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
print(*(s.getsockname()[1] for s in held), sep="\n")')
upstream=http://127.0.0.1:${ports[0]}

# start NAME DATA ADMIN: a replica in its own directory, where its journal stays; returns when it is ready.
cat >"$scratch/start" <<SCRIPT
#!/usr/bin/env bash
set -euo pipefail
mkdir -p "$scratch/\$1"
cd "$scratch/\$1"
"$remora" serve --listen "127.0.0.1:\$2" --admin-listen "127.0.0.1:\$3" --rem-listen 127.0.0.1:0 --upstream "$upstream/v1" \\
    --store "\$(cat "$scratch/store")" --redis "$REDIS_URL" >>"$scratch/\$1.log" 2>&1 &
echo \$! >"$scratch/\$1.pid"
for _ in \$(seq 600); do
    kill -0 "\$(cat "$scratch/\$1.pid")" 2>/dev/null || { echo "replica \$1 ended" >&2; exit 1; }
    if "$python" -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=1)' "http://127.0.0.1:\$3/readyz" 2>/dev/null; then exit 0; fi
    sleep 0.1
done
echo "replica \$1 did not become ready" >&2
exit 1
SCRIPT
cat >"$scratch/kill" <<SCRIPT
#!/usr/bin/env bash
set -euo pipefail
kill -KILL "\$(cat "$scratch/b.pid")"
# It holds its port until it is quite dead.
for _ in \$(seq 300); do
    (exec 3<>/dev/tcp/127.0.0.1/${ports[3]}) 2>/dev/null || break
    sleep 0.05
done
exec "$scratch/start" b ${ports[3]} ${ports[4]}
SCRIPT
chmod +x "$scratch/start" "$scratch/kill"

sql "CREATE DATABASE $database TEMPLATE template0 ENCODING 'UTF8'"
# The same URL with the name of the new database.
"$python" -c '
import sys, urllib.parse as u
print(u.urlunsplit(u.urlsplit(sys.argv[1])._replace(path="/" + sys.argv[2])))' "$DATABASE_URL" "$database" >"$scratch/store"
"$remora" simulate --listen "127.0.0.1:${ports[0]}" >"$scratch/simulate.log" 2>&1 &
echo $! >"$scratch/simulate.pid"
"$scratch/start" a "${ports[1]}" "${ports[2]}" || fail "replica a"
"$scratch/start" b "${ports[3]}" "${ports[4]}" || fail "replica b"

echo "== Python: OpenAI SDK on two replicas"
local=http://127.0.0.1
"$python" "$here/replicas.py" "$local:${ports[1]}" "$local:${ports[2]}" "$local:${ports[3]}" "$local:${ports[4]}" "$scratch/kill" ||
    fail "some cases failed"

for name in a b; do
    kill -TERM "$(cat "$scratch/$name.pid")"
    for _ in $(seq 300); do
        kill -0 "$(cat "$scratch/$name.pid")" 2>/dev/null || break
        sleep 0.1
    done
    grep -q "rows_lost=0.*rows_left_in_journal=0" "$scratch/$name.log" || fail "replica $name did not end in order"
done
twice=$("$psql" -qXAt "$(cat "$scratch/store")" -c "SELECT count(*) - count(DISTINCT id) FROM requests")
[ "$twice" = 0 ] || fail "$twice requests have more than one ledger row"
