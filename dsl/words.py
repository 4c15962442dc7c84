"""What each word of the language means, for those who help to write it: editors and messages."""

from collections.abc import Mapping

from absolver.dsl.expressions import BOUNDS, DERIVATIVES, FACTS, GROUPS
from absolver.dsl.smoothing.kinds import KINDS, SLOPES, VOTES

STRUCTURE: Mapping[str, str] = {
    "domain": "opens the file: `domain NAME`",
    "extends": "`extends A`: carrier, rules and `bounds from` of A, unless stated here",
    "bounds": "`bounds from A`: l and u of the hidden layers are those of A",
    "from": "`bounds from A`: l and u of the hidden layers are those of A",
    "over": "names what bounds are expressed over: `values`, `inputs`, `neurons` or `symbols`",
    "affine": "`x = affine over symbols`: a centre and generators over shared noise symbols",
    "box": "`+ box`: errors of operators go into an interval of the neuron, shared with nobody",
    "x": "the value of a neuron",
    "any": "the rule for every operator of one operand that has no rule of its own",
    "lower": "the line below the operator",
    "upper": "the line above the operator",
    "both": "`both slope E`: one slope for the lower and the upper line",
    "slope": "the slope of a line; the intercept is computed",
    "slopes": "several lines on one side at once, combined by multipliers that are searched",
    "each": "one slope for every operand, of an operator of any number of them",
    "parameter": "`parameter a in [E, E] start E`: a value that the analyzer searches",
    "in": "the range of a parameter: `parameter a in [E, E] start E`",
    "start": "the value of a parameter where nothing is searched",
    "shared": "`shared per layer`: one value of a parameter for all neurons of a layer",
    "per": "`shared per layer`: one value of a parameter for all neurons of a layer",
    "layer": "`shared per layer`: one value of a parameter for all neurons of a layer",
    "line": "a line written with its intercept, which is proved and then computed anew",
    "groups": "`relu in groups of k: slope vector parameter`: k neurons are bounded together",
    "of": "`in groups of k`: how many neurons a group has",
    "among": "`among n`: groups lie within runs of n undecided neurons, sorted by area",
    "sharing": "`sharing m`: how many neurons two groups may have in common",
    "cut": "`cut WEIGHTS <= SLOPES`: an inequality of a group, whose constant is computed",
    "vector": "`slope vector`: one slope for each neuron of a group",
    "norm": "`in norm p`: the norm in which a radius is meant, 1, 2 or inf",
    "inf": "`in norm inf`: the largest absolute value of an entry",
    "center": "`|x - center| <= radius in norm p`: the run at the middle of the input set",
    "radius": "`|x - center| <= radius in norm p`: how far a layer's values can be from it",
    "powerset": "`powerset(A, n)`: A on each of up to n parts of the input set, joined",
    "backward": "`backward(A)`: assumed outputs go back through operators' inverses, and again",
    "noise": "`noise normal(sigma)`: the distribution around an input, and its parameter's name",
    "certifies": "`certifies norm p radius E`: within what radius the noise keeps a label",
    "where": "`radius r where C`: the largest r at which the condition holds",
}
CARRIERS: Mapping[str, str] = {
    "values": "two numbers for each neuron",
    "inputs": "two lines in the network's inputs, carried forward",
    "neurons": "two lines in the neurons before, substituted back",
    "symbols": "an affine form over shared noise symbols",
}
CHOICE: Mapping[str, str] = {
    "if": "`if c then a else b`: a choice for each neuron",
    "then": "the value where the condition holds",
    "else": "the value where the condition does not hold",
    "and": "both conditions hold",
    "or": "at least one of the conditions holds",
    "not": "the condition does not hold",
}
NUMBERS: Mapping[str, str] = {
    **BOUNDS,
    "chord": "(f(u) - f(l)) / (u - l), and f'(l) if u = l",
    **GROUPS,
}
FUNCTIONS: Mapping[str, str] = {
    "f": "`f(e)`: the operator in a point",
    DERIVATIVES: "`f'(e)`: the operator's derivative in a point, at a kink the right one; "
    "`min(f')` and `max(f')` are its extremes on [l, u]",
    "min": "the least of several numbers; `min(f')` the least derivative on [l, u]",
    "max": "the largest of several numbers; `max(f')` the largest derivative on [l, u]",
    "abs": "the absolute value",
}
NOISES: Mapping[str, str] = {
    name: f"noise whose parameter is {kind.parameter}" for name, kind in KINDS.items()
}
NOISE_WORDS: Mapping[str, str] = {**SLOPES, **VOTES}
NOISE_FUNCTIONS: Mapping[str, str] = {
    "normal_cdf": "the distribution function of the normal distribution",
    "normal_density": "the density of the normal distribution",
    "normal_quantile": "the inverse of `normal_cdf`",
    "exp": "e to the power of a number",
    "log": "the natural logarithm",
    "sqrt": "the square root",
    "floor": "the largest whole number that is not larger",
    "untouched": "`untouched(r)`: the probability that ablation keeps none of r elements",
}
MEANINGS: Mapping[str, str] = {
    **NOISES,
    **NOISE_WORDS,
    **NOISE_FUNCTIONS,
    **STRUCTURE,
    **CARRIERS,
    **CHOICE,
    **NUMBERS,
    **FACTS,
    **FUNCTIONS,
}
"""Every word of the language, and what it means."""
