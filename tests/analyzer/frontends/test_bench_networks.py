"""Every network of the benchmark folder loads and agrees with onnxruntime."""

from pathlib import Path

import pytest

from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from absolver.analyzer.frontends.errors import UnsupportedFormError
from absolver.analyzer.frontends.onnx import load_onnx

FOLDERS = ("*/onnx", "nets", "onnx_ops", "violations")
REFUSED = {
    # The place of a patch is an input: Slice and ScatterND at positions that vary.
    "cctsdb_yolo/onnx/patch-1.onnx": "Slice 'Slice_34': operand 1 depends on the input",
    # The network is random: it has no one output.
    "onnx_ops/layer-zoo__dropout_training_mode_true.onnx": "Dropout 'y': it drops at random",
}


def test_every_network_loads_and_agrees_with_onnxruntime(bench_folder: Path) -> None:
    seen = set()
    for pattern in FOLDERS:
        for path in sorted(bench_folder.glob(f"{pattern}/*.onnx*")):
            name = str(path.relative_to(bench_folder))
            seen.add(name)
            if name in REFUSED:
                with pytest.raises(UnsupportedFormError, match=REFUSED[name]):
                    load_onnx(path)
            else:
                check_against_onnxruntime(load_onnx(path))
    assert seen >= set(REFUSED)
    assert len(seen) > 150
