#!/bin/bash
# Makes a Debian base image with Python 3.11 where no image can be pulled: debootstrap, then docker import.
#
#   docker/base.sh [IMAGE]        default taskquorum-base:bookworm
#
# Needs root, debootstrap and a Debian mirror (DEBIAN_MIRROR, default deb.debian.org). The tree is kept as an archive in the cache,
# outside the checkout: a second call takes seconds. Does nothing if the image is there.
set -euo pipefail
IMAGE=${1:-taskquorum-base:bookworm}
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/taskquorum/docker
ARCHIVE=$CACHE/base-bookworm.tar

docker image inspect "$IMAGE" >/dev/null 2>&1 && exit 0
if [ ! -f "$ARCHIVE" ]; then
    [ "$(id -u)" = 0 ] || { echo "docker/base.sh: debootstrap needs root" >&2; exit 1; }
    command -v debootstrap >/dev/null || { echo "docker/base.sh: debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
    mkdir -p "$CACHE"
    TREE=$(mktemp -d "$CACHE/tree.XXXXXX")
    trap 'rm -rf "$TREE"' EXIT
    debootstrap --variant=minbase --include=python3,python3-venv,libstdc++6,ca-certificates bookworm "$TREE" "$MIRROR"
    rm -rf "$TREE"/var/cache/apt/archives/*.deb "$TREE"/var/lib/apt/lists/* "$TREE"/usr/share/{doc,man,locale}/*
    tar -C "$TREE" -cf "$ARCHIVE.new" .
    mv "$ARCHIVE.new" "$ARCHIVE"
fi
docker import "$ARCHIVE" "$IMAGE" >/dev/null
echo "docker/base.sh: $IMAGE is ready"
