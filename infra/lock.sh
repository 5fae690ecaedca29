#!/bin/sh
# Compile locks/<group>.txt from pyproject.toml: every version pinned, every file by hash, no registry's host named.
# The widest group comes first and constrains the others, so that one machine can install several at once.
set -eu
uv=${UV:-.venv/bin/uv}
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-header --no-annotate ${UPGRADE:+--upgrade} "$@"
}
compile --group dev -o locks/dev.txt
for group in gateway profiles matching spark segmentation scoring recommendation feedback evaluation migrate training journey mlflow postgres run; do
    compile --group "$group" -c locks/dev.txt -o "locks/$group.txt"
done
echo uv | compile - -o locks/uv.txt
