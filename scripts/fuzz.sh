#!/usr/bin/env bash
# Fuzzes one target for some seconds: scripts/fuzz.sh rem_grammar|rem_sql [SECONDS] [options of libFuzzer]. Ends with an error if anything
# was found; what it was is below fuzz/artifacts. Needs a C++ compiler. The corpus grows below fuzz/corpus from run to run.
# With DATABASE_URL, rem_sql also runs on PostgreSQL, in a database remora_fuzz_… of its own, which is dropped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?rem_grammar or rem_sql}
seconds=${2:-1800}
shift "$(($# < 2 ? $# : 2))"

cp Cargo.lock fuzz/Cargo.lock
corpus=fuzz/corpus/$target
mkdir -p "$corpus" fuzz/artifacts
case $target in
  rem_grammar) cp fuzz/seeds/rem_grammar/* "$corpus/" ;;
  rem_sql)
    number=0
    while IFS= read -r line; do
      number=$((number + 1))
      printf '%s' "$line" >"$corpus/seed-$number"
    done < <(cut -f2- tests/data/hostile.sql && cat fuzz/seeds/rem_sql.sql)
    ;;
esac

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/fuzz} RUSTC_WRAPPER=$PWD/fuzz/rustc.sh
cargo build --manifest-path fuzz/Cargo.toml --bin "$target"

if [ "$target" = rem_sql ] && [ -n "${DATABASE_URL:-}" ]; then
  psql=psql
  command -v psql >/dev/null || psql=${REMORA_PG_BIN:-}/psql
  command -v "$psql" >/dev/null || { echo "psql is not there: install a PostgreSQL client" >&2; exit 1; }
  database=remora_fuzz_$$
  sql() { "$psql" -qX -v ON_ERROR_STOP=1 "$DATABASE_URL" -c "$1"; }
  sql "CREATE DATABASE $database TEMPLATE template0 ENCODING 'UTF8'"
  trap 'sql "DROP DATABASE $database WITH (FORCE)"' EXIT
  FUZZ_DATABASE_URL=$(sed -E "s#^([a-z]+://[^/?]*)(/[^?]*)?#\1/$database#" <<<"$DATABASE_URL")
  export FUZZ_DATABASE_URL
fi
"$CARGO_TARGET_DIR/debug/$target" "$corpus" -dict="fuzz/$target.dict" -artifact_prefix=fuzz/artifacts/ \
  -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 "$@"
