"""Small random networks for tests, built directly as graphs."""

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, TensorSpec
from absolver.analyzer.graph.linear.convolution import Convolution
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Reshape
from absolver.analyzer.graph.linear.scaling import Identity
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Operator

DTYPE = torch.float64


class NetworkBuilder:
    """Adds nodes one after the other; every method returns the new node's name."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator) -> None:
        self.generator = generator
        self.nodes: list[Node] = [Input(name="x", shape=shape, origin="the input")]

    def affine(self, maps: dict[str, LinearMap], bias: Tensor | None) -> str:
        name = f"affine{len(self.nodes)}"
        shape = next(iter(maps.values())).output_shape
        self.nodes.append(
            Affine(
                name=name,
                shape=shape,
                origin=name,
                inputs=tuple(maps),
                maps=tuple(maps.values()),
                bias=bias,
            )
        )
        return name

    def dense(self, source: str, outputs: int, scale: float = 1.0) -> str:
        shape = self.shape(source)
        weight = self.random(outputs, shape[-1]) * scale / shape[-1] ** 0.5
        return self.affine({source: Dense(weight, shape)}, self.random(outputs) * 0.3)

    def conv(self, source: str, channels: int, kernel: int, stride: int, padding: int) -> str:
        shape = self.shape(source)
        weight = self.random(channels, shape[1], kernel, kernel)
        weight = weight / (shape[1] * kernel * kernel) ** 0.5
        conv = Convolution(
            weight=weight,
            stride=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dilation=(1, 1),
            groups=1,
            input_shape=shape,
        )
        return self.affine({source: conv}, self.random(channels, 1, 1) * 0.3)

    def add(self, first: str, second: str) -> str:
        shape = self.shape(first)
        return self.affine({first: Identity(shape), second: Identity(shape)}, None)

    def flatten(self, source: str) -> str:
        shape = self.shape(source)
        return self.affine({source: Reshape(shape, (1, torch.Size(shape).numel()))}, None)

    def operator(self, operator: Operator, *sources: str) -> str:
        name = f"{operator.name}{len(self.nodes)}"
        self.nodes.append(
            Nonlinear(
                name=name,
                shape=self.shape(sources[0]),
                origin=name,
                inputs=sources,
                operator=operator,
            )
        )
        return name

    def graph(self) -> Graph:
        first, last = self.nodes[0], self.nodes[-1]
        return Graph(
            tuple(self.nodes),
            (TensorSpec(first.name, first.shape),),
            (TensorSpec(last.name, last.shape),),
        )

    def shape(self, name: str) -> tuple[int, ...]:
        return next(node.shape for node in self.nodes if node.name == name)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=DTYPE)


def operator_network(operator: Operator, seed: int) -> Graph:
    """Two layers of one operator between dense layers; operands of k-ary ones are three."""
    generator = torch.Generator().manual_seed(seed)
    builder = NetworkBuilder((1, 3), generator)
    arity = {"each": 3, "x": len(type(operator).operands)}[type(operator).operands[0]]
    source = "x"
    for width in (4, 3):
        operands = [builder.dense(source, width) for _ in range(arity)]
        source = builder.operator(operator, *operands)
    builder.dense(source, 2)
    return builder.graph()


def residual_network(seed: int) -> Graph:
    """A small convolutional ReLU network with a strided shortcut."""
    relu = OPERATORS["relu"]()
    builder = NetworkBuilder((1, 2, 7, 7), torch.Generator().manual_seed(seed))
    first = builder.operator(relu, builder.conv("x", 3, 3, 1, 1))
    inner = builder.operator(relu, builder.conv(first, 4, 3, 2, 1))
    main = builder.conv(inner, 4, 3, 1, 1)
    joined = builder.operator(relu, builder.add(main, builder.conv(first, 4, 1, 2, 0)))
    last = builder.operator(relu, builder.conv(joined, 3, 4, 2, 1))
    builder.dense(builder.flatten(last), 3)
    return builder.graph()


def relu_network(widths: tuple[int, ...], seed: int) -> Graph:
    """A dense ReLU network of the given widths, input and output included."""
    builder = NetworkBuilder((1, widths[0]), torch.Generator().manual_seed(seed))
    source = "x"
    for width in widths[1:-1]:
        source = builder.operator(OPERATORS["relu"](), builder.dense(source, width))
    builder.dense(source, widths[-1])
    return builder.graph()


def instance(name: str) -> Operator:
    """An operator with attributes that are not its defaults where it has some."""
    attributes = {
        "clip": {"min": -0.4, "max": 0.9},
        "elu": {"alpha": 1.5},
        "leaky_relu": {"alpha": 0.1},
        "pow": {"exponent": 3.0},
    }
    return OPERATORS[name](**attributes.get(name, {}))
