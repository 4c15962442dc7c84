"""What each ATen operator becomes: one module a family.

A handler takes the builder, the operator's name and the arguments that ATen's schema gives it.
"""

from absolver.analyzer.frontends.handlers import collect
from absolver.analyzer.frontends.torch_operators import algebra, movement, windows

HANDLERS = collect((algebra, movement, windows))
