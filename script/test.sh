#!/usr/bin/env bash
# Check the whole repository, from a fresh clone on.
USAGE='usage: bash script/test.sh [arguments for pytest]

Installs the repository with its development tools into .venv (not where the variable PYTHON names a Python that has
them), then runs ruff, mypy and pytest. The packed image sets are looked for in NAS_DATA and its folder images, else in
../shared/data/images; without them the tests that need them are left out, and where CI is set that is a failure.'
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "$0")/common.sh"

stage() {
    local name=$1 start=$SECONDS code=0
    shift
    "$@" >&2 || code=$?
    if ((code)); then
        say "$name failed after $((SECONDS - start)) s"
        exit "$code"
    fi
    say "$name passed in $((SECONDS - start)) s"
}

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    printf '%s\n' "$USAGE"
    exit 0
fi
cd -- "$ROOT"
selection=()
images=${NAS_DATA:-$ROOT/../shared/data/images}
if [[ ! -f $images/tiny_imagenet_a.npz && ! -f $images/images/tiny_imagenet_a.npz ]]; then
    [[ -z ${CI:-} ]] || fail "the packed image sets are not in $images: set NAS_DATA to their folder"
    say "the packed image sets are not in $images: tests that need them are left out (NAS_DATA names their folder)"
    selection=(-m "not data")
fi
stage install make_environment dev
find_python
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # small networks: more threads than one cost more than they bring
stage "ruff check" "$PY" -m ruff check .
stage "ruff format" "$PY" -m ruff format --check .
stage mypy "$PY" -m mypy
exec "$PY" -m pytest ${selection[@]+"${selection[@]}"} "$@"
