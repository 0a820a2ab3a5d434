#!/bin/sh
# Runs `python -m benchmarks.gpu` on a machine that has torch and no network: `sh benchmarks/gpu.sh check --out DIR`.
# Missing packages come from the wheels that `make gpu-kit` has put into data/gpu/wheels. PYTHON: another interpreter.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
site=$root/data/gpu/site-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ -d "$root/data/gpu/wheels" ] && [ ! -d "$site" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site.new" \
        "$root"/data/gpu/wheels/*.whl
    mv "$site.new" "$site"
fi
PYTHONPATH="$root:$site${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -u -m benchmarks.gpu "$@"
