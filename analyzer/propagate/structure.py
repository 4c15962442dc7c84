"""What the shape of a graph alone says: which bounds are needed, which are exact, and where."""

from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear, operands


def operands_of_operators(graph: Graph) -> frozenset[str]:
    """Find the nodes whose bounds some operator needs."""
    return frozenset(
        name for node in graph.nodes if isinstance(node, Nonlinear) for name in node.inputs
    )


def exact_on_boxes(graph: Graph) -> frozenset[str]:
    """Find the nodes whose exact bounds over a box of inputs one interval step gives.

    These are the affine nodes with one operand whose neurons vary independently, which is what
    maps with at most one coefficient in a row and a column preserve.
    """
    independent: set[str] = set()
    exact: set[str] = set()
    for node in graph.nodes:
        match node:
            case Input():
                independent.add(node.name)
                exact.add(node.name)
            case Affine(inputs=(operand,), maps=(linear,)) if operand in independent:
                exact.add(node.name)
                if linear.diagonal:
                    independent.add(node.name)
    return frozenset(exact)


def leading_moves(graph: Graph) -> tuple[Affine, ...]:
    """Find the chain of diagonal nodes that everything that depends on the input goes through.

    A box of inputs is a box of independent neurons after each of them, so back-substitution may
    end there: what normalises the input costs nothing for each row.
    """
    users: dict[str, list[Affine | Nonlinear]] = {}
    for node in graph.nodes:
        if isinstance(node, Affine | Nonlinear):
            for name in operands(node):
                users.setdefault(name, []).append(node)
    chain: list[Affine] = []
    current = graph.input.name
    while len(users.get(current, ())) == 1:
        (node,) = users[current]
        if not isinstance(node, Affine) or len(node.maps) != 1 or not node.maps[0].diagonal:
            break
        chain.append(node)
        current = node.name
    return tuple(chain)


def trailing_maps(graph: Graph) -> tuple[Affine, ...]:
    """Find the chain of affine nodes of one operand each that ends in the output, the output first.

    What is linear in the output is linear in the operand of the chain's last node.
    """
    nodes = {node.name: node for node in graph.nodes}
    chain: list[Affine] = []
    current = graph.output
    while isinstance(current, Affine) and len(current.maps) == 1:
        chain.append(current)
        current = nodes[current.inputs[0]]
    return tuple(chain)


def count_uses(graph: Graph) -> dict[str, int]:
    """Count how often each node is an operand; the output is used once more, at the end."""
    uses = {node.name: 0 for node in graph.nodes}
    for node in graph.nodes:
        for name in operands(node):
            uses[name] += 1
    uses[graph.output.name] += 1
    return uses
