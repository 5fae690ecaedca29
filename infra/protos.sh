#!/bin/sh
# Generate protos/gen from protos/rapport. The folder is committed and never edited; `make check` regenerates it elsewhere and compares.
set -eu
out=${1:-protos/gen}
bin=${BIN:-.venv/bin}
rm -rf "$out" && mkdir -p "$out"
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I protos --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" \
    --mypy_grpc_out="$out" $(find protos/rapport -name '*.proto' | sort)
