#!/usr/bin/env bash
# Make .venv with the dependencies of one pinned list.
# usage: scripts/make-venv.sh PYTHON REQUIREMENTS
set -euo pipefail
python=$1
requirements=$2
cd "$(dirname "$0")/.."

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "fcgi-sweep: $python is missing or older than 3.11; name a newer one: make PYTHON=/path/to/python3.11 …" >&2
    exit 2
fi
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement "$requirements"
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
