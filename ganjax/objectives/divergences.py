"""f-divergences as pairs of functions of a logit (Nowozin et al. 2016).

D_f(P || Q) = sup over T of E_P T - E_Q f*(T). Here P is the data, Q the
generator, and T = g_f(v) maps a network's logit v into the domain of the
conjugate f* (their tables 2 and 6; Pearson's divergence as theirs, with f(u) =
(u - 1)^2).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import registry

DIVERGENCES = registry.Registry("divergence")
# Where exponentials go on along their tangent: beyond, the square of one
# would leave float32, and Adam squares.
LIMIT = 30.0


class Divergence(NamedTuple):
  """One f-divergence, on logits.

  Attributes:
    output: v -> T = g_f(v).
    conjugate: v -> f*(g_f(v)).
    probability: v -> the D in [0, 1] of which v is the optimal logit, from
      p_data / p_g = (f')^-1(T).
  """

  output: Callable[[jax.Array], jax.Array]
  conjugate: Callable[[jax.Array], jax.Array]
  probability: Callable[[jax.Array], jax.Array]


def _exp(x):
  """exp(x), and its tangent where x is above LIMIT."""
  return jnp.exp(jnp.minimum(x, LIMIT)) * (1.0 + jax.nn.relu(x - LIMIT))


@DIVERGENCES.register
def kl() -> Divergence:
  """KL(P || Q): T = v, f*(T) = exp(T - 1)."""
  return Divergence(
    lambda v: v,
    lambda v: _exp(v - 1.0),
    lambda v: jax.nn.sigmoid(v - 1.0),
  )


@DIVERGENCES.register
def reverse_kl() -> Divergence:
  """KL(Q || P): T = -exp(-v), f*(T) = -1 - log(-T) = v - 1."""
  return Divergence(lambda v: -_exp(-v), lambda v: v - 1.0, jax.nn.sigmoid)


@DIVERGENCES.register
def pearson() -> Divergence:
  """Pearson's chi square, E_Q (P / Q - 1)^2: T = v, f*(T) = T^2 / 4 + T."""

  def probability(v):
    ratio = jax.nn.relu(1.0 + v / 2.0)
    return ratio / (1.0 + ratio)

  return Divergence(lambda v: v, lambda v: v * v / 4.0 + v, probability)


@DIVERGENCES.register
def squared_hellinger() -> Divergence:
  """Integral of (sqrt P - sqrt Q)^2: T = 1 - exp(-v), f*(T) = T / (1 - T)."""
  return Divergence(
    lambda v: 1.0 - _exp(-v),
    lambda v: _exp(v) - 1.0,
    lambda v: jax.nn.sigmoid(2.0 * v),
  )


@DIVERGENCES.register
def jensen_shannon() -> Divergence:
  """2 JSD(P, Q): T = log 2 + log sigmoid(v), f*(T) = -log(2 - exp T)."""
  return Divergence(
    lambda v: math.log(2.0) - jax.nn.softplus(-v),
    lambda v: jax.nn.softplus(v) - math.log(2.0),
    jax.nn.sigmoid,
  )
