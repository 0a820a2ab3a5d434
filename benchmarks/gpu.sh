#!/bin/sh
# Runs `python -m benchmarks.gpu` on a machine that has torch and no network: `sh benchmarks/gpu.sh check --out DIR`.
# Missing packages come from the wheels that `make gpu-kit` has put into data/gpu/wheels. PYTHON: another interpreter.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ -d data/gpu/wheels ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site" data/gpu/wheels/*.whl
    PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
    export PYTHONPATH
fi
"$python" -u -m benchmarks.gpu "$@"
