#!/usr/bin/env bash
# Makes one virtualenv per dependency set in $BENCH_VENVS (default: bench-venvs in the temporary directory; re-run safe).
set -u
PY=${PY:-python3}
ROOT=${BENCH_VENVS:-${TMPDIR:-/tmp}/bench-venvs}
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$ROOT"
mk() { # name packages...
  local name=$1; shift
  [ -x "$ROOT/$name/bin/python" ] || "$PY" -m venv "$ROOT/$name"
  "$ROOT/$name/bin/pip" install -q hiredis uvloop psutil "$@" > "$ROOT/$name.pip.log" 2>&1 \
    && echo "ok $name" || { echo "FAILED $name (see $ROOT/$name.pip.log)"; tail -3 "$ROOT/$name.pip.log"; }
}
mk ours -e "$HERE/..[fastapi]" uvicorn httptools &
mk rl redis limits coredis "throttled-py[redis]" pyrate-limiter django django-ratelimit &
mk http redis starlette fastapi uvicorn httptools slowapi limits coredis fastapi-limiter "throttled-py[redis]" &
wait
mk http_fl01 redis starlette fastapi uvicorn httptools "fastapi-limiter<0.2" &
mk rl_coredis redis limits "coredis<6" &
mk lock redis python-redis-lock pottery &
wait
mk aioredlock aioredlock setuptools &
mk arq arq &
wait
mk saq "saq[redis,hiredis]" typing_extensions &
mk taskiq taskiq taskiq-redis &
wait
mk streaq streaq &
mk pydocket pydocket &
wait
mk dramatiq "dramatiq[redis]" &
mk rq rq &
wait
mk celery "celery[redis]" gevent &
mk huey huey redis &
wait
mk proto redis py-spy &
wait
