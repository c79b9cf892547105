#!/usr/bin/env bash
# Sets up what the tests need and passes all of them. Needs Rust, Python 3 and Node.js 20; everything else is put
# below target/. Usage: scripts/test.sh [--no-sdk]   (--no-sdk leaves out the tests with the real SDKs)
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo nextest --version >/dev/null 2>&1; then
  echo "== installing cargo-nextest (once)"
  cargo install --locked cargo-nextest
fi

echo "== Rust tests"
cargo nextest run --locked --no-fail-fast

if [ "${1:-}" != "--no-sdk" ]; then
  echo "== real SDKs against the running program"
  tests/e2e/run.sh
fi
echo "== all tests passed"
