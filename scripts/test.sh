#!/usr/bin/env bash
# Sets up what the tests need and passes all of them. Needs Rust with a C compiler; Python, Node.js and Redis are installed
# from Debian's packages if they are missing, PostgreSQL from a Python wheel (scripts/services.sh), everything else goes
# below target/. Services that run already, or that DATABASE_URL and REDIS_URL name, are used and left running.
#
#   scripts/test.sh             all tests
#   scripts/test.sh --no-sdk    without the tests with the real Python and Node.js SDKs
set -euo pipefail
cd "$(dirname "$0")/.."

install_packages() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}

if ! cargo nextest --version >/dev/null 2>&1; then
  echo "== installing cargo-nextest (once)"
  cargo install --locked cargo-nextest
fi
if [ "${1:-}" != "--no-sdk" ]; then
  missing=()
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
  command -v npm >/dev/null || missing+=(nodejs npm)
  [ "${#missing[@]}" = 0 ] || { echo "== installing ${missing[*]}"; install_packages "${missing[@]}"; }
fi

echo "== PostgreSQL and Redis"
scripts/services.sh status || trap 'scripts/services.sh stop' EXIT
services=$(scripts/services.sh start)
eval "$services"

echo "== Rust tests"
cargo nextest run --locked --no-fail-fast

if [ "${1:-}" != "--no-sdk" ]; then
  echo "== real SDKs against the running program"
  tests/e2e/run.sh
fi
echo "== all tests passed"
