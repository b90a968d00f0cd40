"""f-divergences as pairs of functions of a logit (Nowozin et al. 2016).

An f-divergence is D_f(P || Q) = E_Q f(P / Q), and equals the largest value
over all functions T of

    E_P T - E_Q f*(T),

where f* is the convex conjugate of f (their eq. 4). Here P is the data and Q
the generator. The network's logit v may be any number, T only one for which f*
is defined: T = g_f(v) maps the one to the other. The functions are those of
their tables 2 and 6; Pearson's divergence is theirs, with f(u) = (u - 1)^2.

Each entry of `DIVERGENCES` is a function without arguments that returns a
`Divergence`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import registry

DIVERGENCES = registry.Registry("divergence")
# Above this an exponential goes on along its tangent. exp(30) is 1e13, whose
# square, which Adam takes of a gradient, is well within float32's 3e38.
LIMIT = 30.0


class Divergence(NamedTuple):
  """One f-divergence, on logits.

  Attributes:
    output: v -> T = g_f(v), the function under E_P.
    conjugate: v -> f*(g_f(v)), the function under E_Q.
    probability: v -> the D(x) in [0, 1] of which v is the optimal logit. At
      the optimum T = f'(u) with u = p_data / p_g, and D(x) = u / (1 + u).
  """

  output: Callable[[jax.Array], jax.Array]
  conjugate: Callable[[jax.Array], jax.Array]
  probability: Callable[[jax.Array], jax.Array]


def _exp(x: jax.Array) -> jax.Array:
  """Returns exp(x), and above `LIMIT` its tangent there."""
  return jnp.exp(jnp.minimum(x, LIMIT)) * (1.0 + jax.nn.relu(x - LIMIT))


@DIVERGENCES.register
def kl() -> Divergence:
  """KL(P || Q): T = v, f*(T) = exp(T - 1)."""
  return Divergence(
    output=lambda v: v,
    conjugate=lambda v: _exp(v - 1.0),
    # f'(u) = 1 + log u, so u = exp(v - 1).
    probability=lambda v: jax.nn.sigmoid(v - 1.0),
  )


@DIVERGENCES.register
def reverse_kl() -> Divergence:
  """KL(Q || P): T = -exp(-v), f*(T) = -1 - log(-T) = v - 1."""
  return Divergence(
    output=lambda v: -_exp(-v),
    conjugate=lambda v: v - 1.0,
    # f'(u) = -1 / u, so u = exp(v).
    probability=jax.nn.sigmoid,
  )


@DIVERGENCES.register
def pearson() -> Divergence:
  """Pearson's chi square, E_Q (P / Q - 1)^2: T = v, f*(T) = T^2 / 4 + T."""

  def probability(v):
    # f'(u) = 2 (u - 1), so u = 1 + v / 2; no u is below 0.
    ratio = jax.nn.relu(1.0 + v / 2.0)
    return ratio / (1.0 + ratio)

  return Divergence(
    output=lambda v: v,
    conjugate=lambda v: v * v / 4.0 + v,
    probability=probability,
  )


@DIVERGENCES.register
def squared_hellinger() -> Divergence:
  """Integral of (sqrt P - sqrt Q)^2: T = 1 - exp(-v), f*(T) = T / (1 - T)."""
  return Divergence(
    output=lambda v: 1.0 - _exp(-v),
    conjugate=lambda v: _exp(v) - 1.0,
    # f'(u) = 1 - 1 / sqrt u, so u = exp(2 v).
    probability=lambda v: jax.nn.sigmoid(2.0 * v),
  )


@DIVERGENCES.register
def jensen_shannon() -> Divergence:
  """2 JSD(P, Q): T = log 2 + log sigmoid(v), f*(T) = -log(2 - exp T)."""
  return Divergence(
    output=lambda v: math.log(2.0) - jax.nn.softplus(-v),
    conjugate=lambda v: jax.nn.softplus(v) - math.log(2.0),
    # f'(u) = log 2 + log(u / (1 + u)), so u = exp(v).
    probability=jax.nn.sigmoid,
  )
