"""How many operations a function does: those of its matrix products.

A multiplication and an addition are two operations. Products and convolutions
are counted, nothing else.

- What no result needs is not counted.
- Products with the zeros that a dilation puts between pixels are not counted
  (those of a transposed convolution, and of the gradient of a strided one).
- The zeros of a padding are counted.
- A value that is computed twice counts twice, even if the compiler finds out.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval

from ganjax.training import memory


class Count(NamedTuple):
  """Operations, and how far the number is to be trusted.

  Attributes:
    flops: floating-point operations.
    open_loops: loops of unknown length, whose body is counted once.
  """

  flops: int
  open_loops: int = 0

  def __add__(self, other: Any) -> "Count":
    """Returns the sums."""
    return Count(
      flops=self.flops + other.flops,
      open_loops=self.open_loops + other.open_loops,
    )


def count(function: Callable, *args: Any) -> Count:
  """Counts `function(*args)`, of which nothing is computed or compiled.

  Args:
    function: of arrays, as `jax.jit` takes it.
    *args: pytrees of arrays or of `jax.ShapeDtypeStruct`.
  """
  jaxpr: Any = jax.make_jaxpr(function)(*args).jaxpr
  used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(used)


def _count(jaxpr: Any) -> Count:
  return sum(map(_count_equation, jaxpr.eqns), Count(0))


def _count_equation(equation: Any) -> Count:
  """Counts one equation and what it calls, whatever that is."""
  name = equation.primitive.name
  params = equation.params
  if name in PRODUCTS:
    return Count(PRODUCTS[name](equation))
  inner = [_count(jaxpr) for jaxpr in memory.functions(params)]
  if name == "cond":
    return max(inner)  # Only one of its branches runs.
  total = sum(inner, Count(0))
  if name == "scan":
    return total._replace(flops=total.flops * params["length"])
  return total + Count(0, int(name == "while" and total.flops > 0))


def _dot_general(equation: Any) -> int:
  """Returns 2 for each number of the output and each index summed over."""
  (contracted, _), _ = equation.params["dimension_numbers"]
  shape = equation.invars[0].aval.shape
  summed = math.prod(shape[axis] for axis in contracted)
  return 2 * equation.outvars[0].aval.size * summed


def _conv(equation: Any) -> int:
  """Returns 2 for each number of the output and each weight of its window.

  The kernel holds the channels of one group alone, so both kinds of groups
  are accounted for. Between dilated pixels a window meets zeros.
  """
  kernel = equation.invars[1].aval
  params = equation.params
  features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
  dense = 2 * equation.outvars[0].aval.size * (kernel.size // features)
  return dense // math.prod(params["lhs_dilation"])


PRODUCTS = {"dot_general": _dot_general, "conv_general_dilated": _conv}
