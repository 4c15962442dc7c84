#!/bin/bash
# VNN-COMP: run an instance. Arguments: "v1", the category, the network, the property, the result
# file, the timeout in seconds. The exit code is 0 whatever the verdict: another loses it.
if [ "${1:-}" != v1 ]; then
    echo "run_instance.sh: the first argument is ${1:-missing}, not v1" >&2
    exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
echo timeout > "$5" # what counts if we are killed
"$here/python.sh" "$here/run_instance.py" "$3" "$4" "$5" "$6" || echo error > "$5"
exit 0
