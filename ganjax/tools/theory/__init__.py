"""What section 4 of Goodfellow et al. 2014 proves, as functions to call.

Every function takes two histograms, probabilities `[K]`, or two densities
sampled on an even grid, `[K]` with the spacing `dx`; an integral is then a
sum times `dx`. Results are in nats where they contain a logarithm, and are
differentiable with `jax.grad`. They are float32, or float64 inside
`games.float64()`. Nothing is normalised: that is the caller's business.

`p` is the data and `q` the model where a divergence is not symmetric.
`games` plays the small games of the paper, `ganjax theory` draws
them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.typing import ArrayLike

from ganjax import errors


def optimal_discriminator(p_data: ArrayLike, p_g: ArrayLike) -> jax.Array:
  """D* = p_data / (p_data + p_g), `[K]` (2014, Prop. 1, eq. 2).

  Where neither has mass every D is optimal; this one says 1/2 there.
  """
  p, q = _checked(p_data=p_data, p_g=p_g)
  mass = p + q
  return jnp.where(mass > 0, p / jnp.where(mass > 0, mass, 1), 0.5)


def value(
  p_data: ArrayLike, p_g: ArrayLike, d: ArrayLike, dx: float = 1.0
) -> jax.Array:
  """V(D, G) = int p_data log D + p_g log(1 - D) (2014, eqs. 1 and 3).

  Args:
    p_data: `[K]`.
    p_g: `[K]`.
    d: `[K]`, probabilities that x is real. 0 log 0 = 0, so D may be sure
      where it is right; where it is sure and wrong the value is -inf.
    dx: the spacing of the grid.

  Returns:
    A scalar in nats, at most `virtual_criterion(p_data, p_g, dx)`.
  """
  if not isinstance(d, core.Tracer) and (np.asarray(d) > 1).any():
    raise errors.UserError("d must be at most 1: it holds probabilities")
  p, q, d = _checked(p_data=p_data, p_g=p_g, d=d)
  return _integral(_xlogy(p, d) + _xlogy(q, 1 - d), dx)


def virtual_criterion(
  p_data: ArrayLike, p_g: ArrayLike, dx: float = 1.0
) -> jax.Array:
  """C(G) = max_D V(D, G), what G minimises if D is always optimal.

  C(G) = int p_data log p_data / (p_data + p_g) + p_g log p_g / (p_data + p_g)
  (2014, eq. 4). Theorem 1: it equals -log 4 + 2 JSD(p_data, p_g), within
  [-log 4, 0] nats, and is -log 4 only where p_g = p_data. Its gradient in p_g
  is log(1 - D*), as in the proof of Prop. 2.
  """
  p, q = _checked(p_data=p_data, p_g=p_g)
  mass = p + q
  return _integral(_x_log_ratio(p, mass) + _x_log_ratio(q, mass), dx)


def kl(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """KL(p || q) = int p log(p / q), in nats; inf where q = 0 < p.

  The maximum-likelihood direction: q must cover all of p.
  """
  p, q = _checked(p=p, q=q)
  return _integral(_x_log_ratio(p, q), dx)


def reverse_kl(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """KL(q || p) = int q log(q / p), in nats; inf where p = 0 < q.

  The mode-seeking direction: q must stay within p.
  """
  p, q = _checked(p=p, q=q)
  return _integral(_x_log_ratio(q, p), dx)


def jensen_shannon(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """JSD = KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2 (2014, eq. 6).

  In nats, within [0, log 2], finite for any supports. Often mistaken: the
  mean of KL(p || q) and KL(q || p) is not this but `jeffreys` / 2.
  """
  p, q = _checked(p=p, q=q)
  middle = (p + q) / 2
  both = _x_log_ratio(p, middle) + _x_log_ratio(q, middle)
  return _integral(both, dx) / 2


def jeffreys(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """Jeffreys' J = KL(p || q) + KL(q || p) = int (p - q) log(p / q), in nats.

  Inf unless the supports agree. Often mistaken: the mean of the two KLs is
  J / 2, and neither is `jensen_shannon`, which is at most J / 4.
  """
  return kl(p, q, dx) + reverse_kl(p, q, dx)


def total_variation(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """TV = 1/2 int |p - q|, within [0, 1]."""
  p, q = _checked(p=p, q=q)
  return _integral(jnp.abs(p - q), dx) / 2


def pearson(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """Pearson's chi^2 = int (p - q)^2 / q; inf where q = 0 < p.

  The second argument is the denominator: f(u) = (u - 1)^2 in the f-divergence
  int q f(p / q) (Nowozin et al. 2016, section 2.1). Swapped it is Neyman's.
  """
  p, q = _checked(p=p, q=q)
  ratio = jnp.square(p - q) / jnp.where(q > 0, q, 1)
  # q = 0 costs nothing where p = 0 too.
  return _integral(jnp.where(q > 0, ratio, jnp.where(p > 0, jnp.inf, 0)), dx)


def squared_hellinger(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """H^2 = int (sqrt p - sqrt q)^2, within [0, 2].

  Without the 1/2 that some texts have: f(u) = (sqrt u - 1)^2 (Nowozin et al.
  2016, table 1).
  """
  p, q = _checked(p=p, q=q)
  return _integral(jnp.square(_sqrt(p) - _sqrt(q)), dx)


def wasserstein_1d(p: ArrayLike, q: ArrayLike, dx: float = 1.0) -> jax.Array:
  """W1 = int |CDF_p - CDF_q|, in the unit of `dx`: the earth mover's distance.

  The grid must be in order. For histograms, whose entries are probabilities,
  `dx=1` counts bins. Arjovsky et al. 2017, eq. 1, in one dimension.
  """
  p, q = _checked(p=p, q=q)
  return _integral(jnp.abs(jnp.cumsum(p - q) * dx), dx)


def _integral(integrand: jax.Array, dx: float) -> jax.Array:
  return jnp.sum(integrand) * dx


def _xlogy(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns x log y, 0 where both are 0, with finite gradients there."""
  empty = (x == 0) & (y == 0)
  return jnp.where(empty, 0, x * jnp.log(jnp.where(empty, 1, y)))


def _x_log_ratio(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns x log(x / y): 0 where x = 0, inf where y = 0 < x."""
  # Two logarithms, since the quotient of tiny densities overflows.
  return _xlogy(x, x) - _xlogy(x, y)


def _sqrt(x: jax.Array) -> jax.Array:
  """The root, with the gradient 0 and not inf at 0."""
  # The inner `where` keeps the gradient of the branch that is not taken finite:
  # 0 times inf would be NaN. So it is in `_xlogy` and wherever a bin is empty.
  return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def _checked(**arrays: ArrayLike) -> list[jax.Array]:
  """Returns arrays of one shape `[K]`; values are checked unless traced.

  Raises:
    UserError: not one-dimensional, of different lengths, negative or NaN.
  """
  shapes = {name: list(np.shape(x)) for name, x in arrays.items()}
  first = next(iter(shapes.values()))
  if len(first) != 1 or any(shape != first for shape in shapes.values()):
    said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise errors.UserError(f"need histograms of one shape [K], not {said}")
  for name, x in arrays.items():
    # By NumPy: inside a trace even known values would become unknown ones.
    known = not isinstance(x, core.Tracer)
    if known and not (np.asarray(x) >= 0).all():
      raise errors.UserError(f"{name} must be at least 0 everywhere")
  return [jnp.asarray(x) for x in arrays.values()]
