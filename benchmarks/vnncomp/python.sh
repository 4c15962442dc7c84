#!/bin/bash
# The Python of install_tool.sh, or $ABSOLVER_PYTHON. -P: no folder of the benchmark is a package.
here=$(cd "$(dirname "$0")" && pwd)
exec "${ABSOLVER_PYTHON:-$here/../../.venv/bin/python}" -P "$@"
