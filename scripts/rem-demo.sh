#!/usr/bin/env bash
# Loads the data that docs/rem-cookbook.md asks: starts the simulated upstream and Remora on a database of its own, sends some
# traffic of two users through it, imports docs/rem-demo, and stays until Ctrl-C.
#
#   scripts/rem-demo.sh              then, in another terminal, the queries of the cookbook
#   scripts/rem-demo.sh --cookbook   asks them itself, prints questions and answers as the cookbook shows them, and ends
#
# REMORA names the program; otherwise it is built. Ports: DEMO_PORT (8080) and the three that follow it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${REMORA:-}" ]; then
    cargo build --release --locked
    REMORA=target/release/remora
fi
REMORA=$(realpath "$REMORA")
port=${DEMO_PORT:-8080}
scratch=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

export REMORA_API_KEY=sk-demo REMORA_REM_URL=http://127.0.0.1:$((port + 2))
proxy=http://127.0.0.1:$port

"$REMORA" simulate --listen "127.0.0.1:$((port + 3))" --answers docs/rem-demo/answers.jsonl >"$scratch/simulate.log" 2>&1 &
pids+=($!)
printf '[cache]\nrecord_prompts = true\n' >"$scratch/remora.toml"
"$REMORA" serve --config "$scratch/remora.toml" --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$((port + 1))" \
    --rem-listen "127.0.0.1:$((port + 2))" --upstream "http://127.0.0.1:$((port + 3))/v1" \
    --store "sqlite://$scratch/remora.db" >"$scratch/serve.log" 2>&1 &
pids+=($!)
for _ in $(seq 300); do
    curl -sf -o /dev/null "http://127.0.0.1:$((port + 1))/readyz" && break
    kill -0 "${pids[-1]}" 2>/dev/null || { cat "$scratch/serve.log" >&2; exit 1; }
    sleep 0.1
done

# ask USER QUESTION
ask() {
    curl -sf -o /dev/null "$proxy/v1/chat/completions" -H "authorization: Bearer $REMORA_API_KEY" -H "x-remora-user: $1" \
        -H 'content-type: application/json' \
        -d "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"$2\"}]}"
}
ask maria 'How do I get a refund?'
ask maria 'Can a refund go to another card?'
ask tom 'How do I get a refund?'
ask tom 'What are your opening hours?'
ask maria 'Where is my invoice?'
ask tom 'How do I get a refund?'
ask tom 'Can a refund go to another card?'
ask maria 'What are your opening hours?'

"$REMORA" rem import docs/rem-demo/planning-meeting.txt --public --category meeting
"$REMORA" rem import docs/rem-demo/facts.jsonl

# What traffic leaves behind is brought to REM in the background, and so are vectors, in the order of writing: the last are those of
# the file of facts.
asked='SELECT count(*) AS n FROM requests q JOIN resources r ON r.id = q.entry'
for _ in $(seq 300); do
    "$REMORA" rem --json "$asked" 2>/dev/null | grep -q '"n": *8' &&
        "$REMORA" rem --json 'SEARCH "a lock on the table of orders" MODE vector' 2>/dev/null | grep -q "Incident 2024-12-03 notes" && break
    sleep 0.2
done

if [ "${1:-}" != --cookbook ]; then
    echo
    echo "REM answers at $REMORA_REM_URL. In another terminal:"
    echo "  export REMORA_API_KEY=$REMORA_API_KEY REMORA_REM_URL=$REMORA_REM_URL"
    echo "  remora rem 'LOOKUP \"sarah chen\"'"
    echo "Ctrl-C ends it, and its data with it."
    wait "${pids[-1]}"
    exit
fi

# show QUERY…: as it stands in the cookbook.
show() {
    echo "\$ remora rem ${*@Q}"
    "$REMORA" rem "$@"
    echo
}
week_ago=$(date -u -d '7 days ago' +%F)
show "SELECT r.name, count(*) AS served, sum(q.saved_usd) AS saved_usd FROM requests q JOIN resources r ON r.id = q.entry WHERE lower(r.content) LIKE '%refund%' AND q.outcome = 'hit' GROUP BY r.name ORDER BY saved_usd DESC"
show 'SEARCH "getting money back" CATEGORY gpt-4o LIMIT 3'
show "SELECT q.user_name, count(*) AS asked, max(q.started_at) AS last FROM requests q JOIN resources r ON r.id = q.entry WHERE lower(r.name) LIKE '%refund%' AND q.started_at >= '$week_ago' GROUP BY q.user_name ORDER BY asked DESC, q.user_name"
show 'TRAVERSE "Can a refund go to another card?" INBOUND TYPE served_from'
show 'TRAVERSE "Incident 2024-12-03" DEPTH 0'
show 'TRAVERSE "Incident 2024-12-03" DEPTH 2 LAZY'
show 'FUZZY "mike rodrigez"'
show 'LOOKUP mike, "sara chen"'
show 'SEARCH "who owns the semantic cache?" LIMIT 3'
show 'SEARCH "what were the decisions?" WHERE "category = '"'meeting'"'" LIMIT 2'
show 'SEARCH "what are the risks?" LIMIT 2'
show 'SEARCH "what was decided?"'
show 'SEARCH "what was decided?" MIN_SIMILARITY 0.2 LIMIT 2'
show "SQL moments WHERE \"starts_at >= '2024-12-01'\" ORDER BY starts_at"
show 'TRAVERSE "Sarah Chen" TYPE owns,planned_in DEPTH 2 KEYS'
show explain 'FUZZY "sara chen"'
