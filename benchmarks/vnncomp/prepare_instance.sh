#!/bin/bash
# VNN-COMP: prepare for an instance. Arguments: "v1", the category, the network, the property.
# Nothing is analysed here. Libraries and files are read once, so that a cold disk does not count.
if [ "${1:-}" != v1 ]; then
    echo "prepare_instance.sh: the first argument is ${1:-missing}, not v1" >&2
    exit 1
fi
here=$(cd "$(dirname "$0")" && pwd)
# Another exit code would skip the category, which no cold disk is worth.
"$here/python.sh" -c 'import onnx, onnxruntime, torch' || true
cat -- "$3" "$4" > /dev/null 2>&1 || true
exit 0
