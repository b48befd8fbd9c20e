#!/bin/bash
# Builds the image of one node from dist/*.whl and a wheelhouse of its locked dependencies.
#
#   docker/build.sh [IMAGE]       default taskquorum:dev; BASE=… takes another base than docker/base.sh makes
#
# Call it after `make wheel`. The context lies in the cache, outside the checkout; the wheelhouse is filled once.
set -euo pipefail
cd "$(dirname "$0")/.."
IMAGE=${1:-taskquorum:dev}
CONTEXT=${XDG_CACHE_HOME:-$HOME/.cache}/taskquorum/docker/context
PYTHON=${PYTHON:-.venv/bin/python}
WHEELS=(dist/taskquorum-*.whl)
[ -f "${WHEELS[0]}" ] || { echo "docker/build.sh: no dist/taskquorum-*.whl: make wheel" >&2; exit 1; }

if [ -z "${BASE:-}" ]; then
    BASE=taskquorum-base:bookworm
    docker/base.sh "$BASE"
fi
mkdir -p "$CONTEXT/wheelhouse"
if ! cmp -s requirements/runtime.txt "$CONTEXT/runtime.txt"; then
    rm -rf "$CONTEXT/wheelhouse"
    "$PYTHON" -m pip download --quiet --only-binary :all: -r requirements/runtime.txt -d "$CONTEXT/wheelhouse"
    cp requirements/runtime.txt "$CONTEXT/runtime.txt"
fi
rm -f "$CONTEXT"/wheelhouse/taskquorum-*.whl
cp "${WHEELS[0]}" "$CONTEXT/wheelhouse/"
docker build --quiet --build-arg "BASE=$BASE" -f docker/Dockerfile -t "$IMAGE" "$CONTEXT" >/dev/null
echo "docker/build.sh: $IMAGE is ready"
