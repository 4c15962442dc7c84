"""Clauses and constraints have the numbers that the format's section 5 gives them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.errors import PropertyError
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.vnnlib import parse_vnnlib
from absolver.analyzer.regions.errors import EmptyBoxError
from absolver.certificates.network import Tensor
from absolver.certificates.vnnlib import read_vnnlib

INPUTS, OUTPUTS = 2, 3


@dataclass(frozen=True)
class Junction:
    """`(and ...)` or `(or ...)`."""

    word: str
    parts: "tuple[Tree, ...]"


Tree = Junction | str


def written(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    return f"({tree.word} {' '.join(map(written, tree.parts))})"


def disjuncts(tree: Tree) -> Iterator[list[str]]:
    """The rule of section 5, written down once more: the atoms first, then the choices."""
    parts = conjuncts(tree)
    atoms = [part for part in parts if isinstance(part, str)]
    options = [
        [choice for part in junction.parts for choice in disjuncts(part)]
        for junction in parts
        if isinstance(junction, Junction)
    ]
    for chosen in product(*options):
        yield [*atoms, *(atom for choice in chosen for atom in choice)]


def conjuncts(tree: Tree) -> list[Tree]:
    match tree:
        case Junction("and", parts):
            return [inner for part in parts for inner in conjuncts(part)]
        case Junction("or", (only,)):
            return conjuncts(only)
    return [tree]


def atoms() -> st.SearchStrategy[Tree]:
    bounds = st.builds(
        "({} X_{} {})".format,
        st.sampled_from(["<=", ">="]),
        st.integers(0, INPUTS - 1),
        st.integers(-2, 2),
    )
    outputs = st.builds("(<= Y_{} {})".format, st.integers(0, OUTPUTS - 1), st.integers(-9, 9))
    return st.one_of(bounds, outputs)


trees = st.recursive(
    atoms(),
    lambda inner: st.builds(
        Junction, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=10,
)


def declared(*assertions: str) -> str:
    names = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)]
    lines = [f"(declare-const {name} Real)" for name in names]
    lines += [f"(assert (and (<= X_{i} 2) (>= X_{i} -2)))" for i in range(INPUTS)]
    return "\n".join([*lines, *(f"(assert {text})" for text in assertions)])


def understood(text: str) -> Property:
    inputs, outputs = (TensorSpec(name, (1, n)) for name, n in (("x", INPUTS), ("y", OUTPUTS)))
    return parse_vnnlib(text, "test", [inputs], [outputs])


@given(st.lists(trees, min_size=1, max_size=2))
def test_a_clause_has_the_number_of_its_disjunct(assertions: list[Tree]) -> None:
    expected = list(disjuncts(Junction("and", tuple(assertions))))
    try:
        prop = understood(declared(*map(written, assertions)))
    except (PropertyError, EmptyBoxError):
        return  # no clause has an input
    for clause in prop.clauses:
        wanted = [atom for atom in expected[clause.number] if "Y_" in atom]
        found = [f"(<= Y_{c.terms[0][0]} {c.bound})" for c in clause.on_outputs]
        assert found == wanted
    numbers = {clause.number for clause in prop.clauses}
    assert numbers == {i for i, atoms in enumerate(expected) if possible(atoms)}


@given(st.lists(trees, min_size=1, max_size=2))
def test_the_checkers_reader_numbers_alike(assertions: list[Tree]) -> None:
    text = declared(*map(written, assertions))
    theirs = read_vnnlib(
        text.encode(),
        [Tensor("x", (1, INPUTS), "float32")],
        [Tensor("y", (1, OUTPUTS), "float32")],
    )
    try:
        clauses = understood(text).clauses
    except (PropertyError, EmptyBoxError):
        assert all(clause.empty for clause in theirs.clauses)
        return
    ours = {clause.number: clause for clause in clauses}
    assert set(ours) == {i for i, clause in enumerate(theirs.clauses) if not clause.empty}
    for number, clause in ours.items():
        same = theirs.clauses[number].on_outputs
        assert [(c.terms, c.bound, c.strict) for c in clause.on_outputs] == [
            (tuple((v - INPUTS, k) for v, k in c.terms), c.bound, c.strict) for c in same
        ]


def possible(atoms: list[str]) -> bool:
    low, high = [-2] * INPUTS, [2] * INPUTS
    for atom in atoms:
        relation, variable, bound = atom.strip("()").split()
        if variable[0] == "X":
            i = int(variable[2:])
            if relation == "<=":
                high[i] = min(high[i], int(bound))
            else:
                low[i] = max(low[i], int(bound))
    return all(a <= b for a, b in zip(low, high, strict=True))


def test_a_clause_that_only_strictness_makes_impossible_is_told() -> None:
    text = declared("(or (and (< X_0 -2) (<= Y_0 0)) (<= Y_1 0))")
    prop = understood(text)
    assert [clause.number for clause in prop.clauses] == [1]
    assert prop.impossible == (0,)
