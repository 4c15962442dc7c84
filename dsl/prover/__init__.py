"""The prover: soundness of operators and domains, decided over the reals in three answers.

`operators` has what is owed for each operator, `domains` for each domain, `lines` for lines that a
rule writes out. z3, sympy and python-flint (the extra `smt`) are imported with those modules only.
"""
