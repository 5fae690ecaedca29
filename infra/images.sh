#!/bin/sh
# Builds images and shows how large each is over its base: infra/images.sh [name ...], all where none is named. TAG=dev is the tag.
# REGISTRY=registry.example/team/ goes before their names.
set -eu
tag=${TAG:-dev}
maven=${HOME:-/root}/.m2/settings.xml
export DOCKER_BUILDKIT=1
all="gateway profiles segmentation scoring recommendation feedback evaluation migrate matching training journey mlflow postgres prometheus kafka"
revision=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
command -v docker >/dev/null || { echo "rapport: there is no docker in PATH." >&2; exit 2; }

[ $# -gt 0 ] || set -- $all
for name; do
    image=${REGISTRY:-}rapport/$name:$tag
    case $name in
        postgres | prometheus | kafka) recipe="-f infra/images/$name/Dockerfile" ;;
        *) recipe="--build-arg SERVICE=$name" ;;
    esac
    # Where Maven takes its artifacts from, if not from its default place.
    [ "$name" != kafka ] || [ ! -f "$maven" ] || recipe="$recipe --secret id=maven,src=$maven"
    # shellcheck disable=SC2086  # words
    docker build --quiet $recipe --build-arg VERSION="$tag" --build-arg REVISION="$revision" -t "$image" . >/dev/null ||
        { echo "rapport: the image $image can't be built: see above." >&2; exit 1; }
done

size() { docker image inspect --format '{{.Size}}' "$1"; }
python=$(size python:3.11-slim)
debian=$(size debian:bookworm-slim)
printf '%-36s %10s %14s\n' image MB 'MB over base'
for name; do
    image=${REGISTRY:-}rapport/$name:$tag
    base=$python
    case $name in prometheus | kafka) base=$debian ;; esac
    bytes=$(size "$image")
    printf '%-36s %10d %14d\n' "$image" $((bytes / 1000000)) $(((bytes - base) / 1000000))
done
