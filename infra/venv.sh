#!/bin/sh
# Makes the virtual environment and installs locks/<group>.txt into it, every file checked by its hash. Instant where that was done before.
# Usage: infra/venv.sh run|dev. Exit code 2, after one sentence, where this machine lacks something.
set -eu
group=$1
venv=.venv
stamp=$venv/installed-$group
key=$(cksum locks/uv.txt "locks/$group.txt" pyproject.toml)

refuse() {
    echo "rapport: $1" >&2
    exit 2
}

# A lock is for this project's folder: an environment that was moved or whose Python is gone is made anew.
is_whole() {
    [ -x $venv/bin/python ] && [ "$($venv/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" = "$PWD/$venv" ]
}

# Sets $python to the first that will do.
find_python() {
    found=
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3 python3.14}; do
        python=$(command -v "$name") && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found=$python
        "$python" -c 'import venv, ensurepip' 2>/dev/null && return
    done
    [ -z "$found" ] || refuse "$found has no venv module: on Debian or Ubuntu, install the package python3-venv."
    refuse "Python 3.11 or newer is needed, and there is none in PATH (PYTHON= names one elsewhere)."
}

if is_whole && [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
    exit 0
fi
if ! is_whole; then
    find_python
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$free" -gt 3000000 ] || refuse "The disk of $PWD is full: $((free / 1000)) MB are free, 3000 MB are needed."
    echo "Making $venv with $python ..."
    rm -rf $venv
    "$python" -m venv $venv || refuse "The virtual environment $venv could not be made: see above."
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
$venv/bin/python -m pip install --quiet --require-hashes -r locks/uv.txt || refuse "uv could not be installed: see above."
# Where pip was told of another registry, uv is told too.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    index=$($venv/bin/python -m pip config get global.index-url 2>/dev/null || echo "${PIP_INDEX_URL:-}")
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
fi
echo "Installing locks/$group.txt ..."
# Compiled now, once, instead of at each start of ten processes.
$venv/bin/uv pip install --quiet --python $venv --require-hashes --compile-bytecode -r "locks/$group.txt" &&
    $venv/bin/uv pip install --quiet --python $venv --no-deps --no-build-isolation -e . ||
    refuse "The packages could not be installed: see above."
echo "$key" >"$stamp"
