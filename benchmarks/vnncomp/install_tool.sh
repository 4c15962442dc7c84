#!/bin/bash
# VNN-COMP: install the tool. Arguments: the version of the scripts' interface, "v1".
# Python 3.11 or newer is taken from $PYTHON or the system; without one, from Ubuntu's packages.
set -euo pipefail
if [ "${1:-}" != v1 ]; then
    echo "install_tool.sh: the first argument is ${1:-missing}, not v1" >&2
    exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

python=${PYTHON:-python3}
if ! fits "$python"; then
    apt=(apt-get)
    [ "$(id -u)" = 0 ] || apt=(sudo apt-get)
    "${apt[@]}" update
    "${apt[@]}" install -y python3.11 python3.11-venv
    python=python3.11
fi
"$python" -m venv "$root/.venv"
"$root/.venv/bin/pip" install -c "$root/constraints.txt" "$root[rational]"
"$root/.venv/bin/absolver" --version
