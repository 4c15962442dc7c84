"""False claims that the checker once accepted, and files that once made it fall over."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from absolver.certificates.network import Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.attack.claims import Bound, Part, vnnlib
from tests.attack.container import Record, certificate
from tests.attack.generate import Network
from tests.attack.honest import claim_of
from tests.attack.judge import Judge

TIERS = ("fast", "exact", "rational")


def leaf(**refutation: object) -> Record:
    """A leaf that refutes clause 0 by its constraint 0, but for what is said."""
    zero = np.zeros(1, np.int32)
    block = {"clause": zero, "row": zero, "constraint": zero, **refutation}
    return {"record": "leaf", "refutations": [block]}


def at_most(box: tuple[tuple[int, int], ...], bound: int) -> str:
    """The property whose unsafe outputs are `Y_0 <= bound`, over a box."""
    sides = tuple((Fraction(low), Fraction(high)) for low, high in box)
    form = Bound(((Fraction(1), 0),), Fraction(bound), strict=False)
    return vnnlib([Part(sides, (form,))], len(box), 1)


@pytest.mark.regression
@pytest.mark.parametrize("tier", TIERS)
def test_a_sum_that_overflows_on_the_way_is_no_bound(tier):
    # 2e7 + 2e7 - 2.1e7 - 2.1e7, all times 2^999: the first two overflow, the sum is negative.
    network = Network((1, 4))
    network.dense("x", [[1.0] * 4], [0.0])
    large = 20_000_000
    box = tuple((v, v + 1) for v in (large, large, -large - 10**6, -large - 10**6))
    text, case = at_most(box, 0), {"record": "case", "clauses": [[0, 1]]}
    records = [claim_of(network.model(), text), case, leaf(multiplier=np.array([2.0**999]))]
    answer = Judge(network.model(), text)(certificate(records), tier)
    assert answer.startswith("invalid")


@pytest.mark.regression
@pytest.mark.parametrize("tier", TIERS)
def test_a_row_without_terms_proves_nothing(tier):
    network = Network((1, 1))
    network.dense("x", [[1.0]], [0.0])
    text, case = at_most(((0, 1),), 0), {"record": "case", "clauses": [[0, 1]]}
    nothing = np.zeros(0, np.int32)
    records = [claim_of(network.model(), text), case, leaf(row=nothing, constraint=nothing)]
    answer = Judge(network.model(), text)(certificate(records), tier)
    assert answer.startswith("invalid")


def model(nodes: list[onnx.NodeProto], inputs: int, outputs: int) -> bytes:
    """A graph from `x [1, inputs]` to `y [1, outputs]`."""
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", inputs), ("y", outputs))
    ]
    graph = helper.make_graph(nodes, "hole", infos[:1], infos[1:])
    opset = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.regression
@pytest.mark.parametrize("semantics", ["tf32", "bf16"])
def test_operands_of_a_product_of_variables_are_rounded_too(semantics):
    # 1 + 2^-11 becomes 1 in tf32, so that its square is 1 instead of 1.00098.
    content = model([helper.make_node("MatMul", ["x", "x"], ["y"])], 1, 1)
    value = 1 + Fraction(1, 2**11)
    form = Bound(((Fraction(1), 0),), Fraction(10001, 10000), strict=False)
    text = vnnlib([Part(((value, value),), (form,))], 1, 1)
    case = {"record": "case", "clauses": [[0, 1]]}
    records = [claim_of(content, text, semantics), case, leaf()]
    assert Judge(content, text)(certificate(records)).startswith("incomplete")


@pytest.mark.regression
def test_a_kernel_that_does_not_fit_is_refused():
    # onnxruntime gives one window of (x0 + x2) / 2 each; there is none by ONNX's formula.
    pool = helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[3], dilations=[2])
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 4])
    nodes = [
        shape,
        helper.make_node("Reshape", ["x", "shape"], ["image"]),
        pool,
        helper.make_node("ReduceSum", ["pooled"], ["y"]),
    ]
    with pytest.raises(Unsupported, match="spans 5"):
        read_network(model(nodes, 4, 1))


@pytest.mark.regression
def test_a_missing_bound_beside_a_huge_number_is_no_fault():
    network = Network((1, 2))
    tensor = network.dense("x", [[1.0, 0.0], [0.0, 3e38]], [0.0, 1.0])
    network.dense(tensor, [[1.0, 1.0]], [0.0])
    names = "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)"
    text = f"{names} (assert (>= X_1 1.0)) (assert (<= X_1 2.0)) (assert (<= Y_0 1e39))"
    case, content = {"record": "case", "clauses": [[0, 1]]}, network.model()
    records = [claim_of(content, text), case, leaf(multiplier=np.array([1.7e308]))]
    assert Judge(content, text)(certificate(records), "rational").startswith("invalid")
