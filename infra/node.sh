#!/bin/sh
# A Kubernetes for tests, with the images of this release and of the one before on its node. As root.
# FULL=1: Kafka's image too, which only the long form of the tests uses.
# CLUSTER is a folder with two programs: `up` starts a cluster and says, after "ready: ", what to export; `load` takes images.
# The release before is the commit that the chart names; its chart then lies in build/previous, its images have the tag `previous`.
set -eu
services="gateway profiles segmentation scoring recommendation feedback evaluation migrate"
others="matching training journey mlflow postgres prometheus"
[ "${FULL:-}" != 1 ] || others="$others kafka"
said=$("$CLUSTER/up" 2>&1 | tee /dev/stderr | sed -n 's/^.*ready: //p')
eval "$said"

# shellcheck disable=SC2086  # words
infra/images.sh $services $others
images=
for name in $services $others; do images="$images rapport/$name:dev"; done

previous=$(sed -n 's/.*rapport.io\/previous-commit: *//p' charts/rapport/Chart.yaml)
if git cat-file -e "$previous^{commit}" 2>/dev/null; then
    rm -rf build/previous && mkdir -p build/previous
    git archive "$previous" | tar -x -C build/previous
    # shellcheck disable=SC2086  # words
    (cd build/previous && TAG=previous infra/images.sh $services)
    for name in $services; do images="$images rapport/$name:previous"; done
else
    echo "rapport: this clone lacks $previous, the release before: the upgrade from it can't be tested." >&2
fi
# shellcheck disable=SC2086  # words
"$CLUSTER/load" $images
echo "$said"
