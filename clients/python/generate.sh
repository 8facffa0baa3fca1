#!/usr/bin/env bash
# Generates the Python code of the wire contract into clients/python/millstream/v1/ (not kept in the repository).
set -euo pipefail
cd "$(dirname "$0")"
protos=../../proto
rm -rf millstream
"${PYTHON:-python3}" -m grpc_tools.protoc --proto_path="$protos" --python_out=. --grpc_python_out=. \
  "$protos"/millstream/v1/*.proto
