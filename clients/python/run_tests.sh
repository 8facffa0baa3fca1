#!/usr/bin/env bash
# Tries the example and the error contract against a broker binary: run_tests.sh path/to/millstream
# Makes its own virtual environment, outside the sources, the first time.
set -euo pipefail
broker="$(realpath "${1:?give the path of a millstream binary, such as target/debug/millstream}")"
cd "$(dirname "$0")"
environment="${MILLSTREAM_VENV:-.venv}"
if ! "$environment/bin/python" -c 'import grpc_tools, grpc_status' 2>/dev/null; then
  python3 -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
fi
PYTHON="$environment/bin/python" ./generate.sh
MILLSTREAM_BINARY="$broker" exec "$environment/bin/python" -m unittest --verbose test_client
