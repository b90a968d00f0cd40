"""The small games of the papers, solved as the proofs solve them.

Histograms are probabilities `[K]`. Everything is a pure function; inside
`float64()` it is in double precision.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ganjax.tools import theory


def float64() -> contextlib.AbstractContextManager[Any]:
  """Returns a context in which JAX computes in double precision."""
  # The newest JAX has only the first, the oldest only the second.
  enable = getattr(jax, "enable_x64", None)
  if enable is None:
    from jax import experimental

    enable = getattr(experimental, "enable_x64")  # noqa: B009
  return enable(True)


def _ascend(
  objective: Callable[[jax.Array], jax.Array],
  start: jax.Array,
  mass: jax.Array,
  rate: float,
  num_steps: int,
) -> jax.Array:
  """Gradient ascent of `objective`, each bin at a rate of 1 / its mass."""
  # Empty bins have no gradient. Scaling a coordinate moves no optimum, but
  # without it a bin would need as many more steps as it is rarer.
  speed = rate / jnp.where(mass > 0, mass, 1)

  def climb(_, x):
    return x + speed * jax.grad(objective)(x)

  return jax.lax.fori_loop(0, num_steps, climb, start)


def fit_discriminator(
  p_data: ArrayLike, p_g: ArrayLike, num_steps: int = 5000, rate: float = 4.0
) -> jax.Array:
  """Trains D with one logit a bin, from D = 1/2 (2014, Prop. 1).

  Args:
    p_data: `[K]`.
    p_g: `[K]`.
    num_steps: of gradient ascent of V(D, G).
    rate: the learning rate per mass; V is smooth enough for any below 8.

  Returns:
    D, `[K]`: near `theory.optimal_discriminator`, which it does not use.
  """
  p = jnp.asarray(p_data)
  q = jnp.asarray(p_g)

  def objective(logits):
    return theory.value(p, q, jax.nn.sigmoid(logits))

  logits = _ascend(objective, jnp.zeros_like(p), p + q, rate, num_steps)
  return jax.nn.sigmoid(logits)


def pairing_value(
  critic: ArrayLike, p_data: ArrayLike, p_g: ArrayLike
) -> jax.Array:
  """E log sigmoid(C(x) - C(y)), x real, y fake (Jolicoeur-Martineau 2019).

  Its supremum over C is JSD(p x q, q x p) - log 2, of the joint densities of
  ordered pairs, attained by `log p - log q` plus any constant.
  """
  critic = jnp.asarray(critic)
  margins = critic[:, None] - critic[None, :]
  log_right = jax.nn.log_sigmoid(margins)
  return jnp.asarray(p_data) @ log_right @ jnp.asarray(p_g)


def fit_pairing(
  p_data: ArrayLike, p_g: ArrayLike, num_steps: int = 5000, rate: float = 2.0
) -> jax.Array:
  """Trains a relativistic critic, one logit a bin; returns it, `[K]`.

  Args:
    p_data: `[K]`.
    p_g: `[K]`.
    num_steps: of gradient ascent of `pairing_value`.
    rate: the learning rate per mass.
  """
  p = jnp.asarray(p_data)
  q = jnp.asarray(p_g)

  def objective(critic):
    return pairing_value(critic, p, q)

  return _ascend(objective, jnp.zeros_like(p), p + q, rate, num_steps)


def pairs(p_data: ArrayLike, p_g: ArrayLike) -> tuple[jax.Array, jax.Array]:
  """Returns the laws of (real, fake) and (fake, real), each `[K * K]`."""
  joint = jnp.outer(jnp.asarray(p_data), jnp.asarray(p_g))
  return joint.ravel(), joint.T.ravel()


def multiplicative_weights(
  p_data: ArrayLike, p_g: ArrayLike, num_steps: int = 1000, rate: float = 0.1
) -> jax.Array:
  """Moves p_g itself against an always optimal D (2014, Prop. 2).

  p_g <- p_g exp(-rate dC/dp_g) / Z, mirror descent of the convex C(G). It
  says nothing of a G with parameters, nor of a D that lags behind.

  Returns:
    p_g at each step, `[num_steps + 1, K]`.
  """
  p = jnp.asarray(p_data)
  q = jnp.asarray(p_g)

  def step(q, _):
    gradient = jax.grad(theory.virtual_criterion, 1)(p, q)
    new = q * jnp.exp(-rate * gradient)
    return new / new.sum(), q

  return jax.lax.scan(step, q, None, num_steps + 1)[1]


def dirac_field(
  point: jax.Array,
  gamma1: float = 0.0,
  gamma2: float = 0.0,
  f: Callable[[jax.Array], jax.Array] = jax.nn.log_sigmoid,
  non_saturating: bool = False,
) -> jax.Array:
  """The Dirac-GAN's gradient flow (Mescheder et al. 2018, Definition 2.1).

  The data sit at 0, the generator's only sample at theta, and D(x) = psi x.
  D ascends f(D(0) - D(theta)) - (gamma1 + gamma2) / 2 psi^2: with D(0) = 0
  the relativistic game (Huang et al. 2024, eq. 2) and the plain one agree,
  and so do R1 and R2, as D's slope is psi everywhere.

  Args:
    point: (theta, psi), `[2]`.
    gamma1: of R1, gamma1 / 2 times the squared slope at the data.
    gamma2: of R2, the same at the sample.
    f: of the game; the default is the logistic one, f'(0) = 1/2. The identity
      gives the Wasserstein game, f'(0) = 1.
    non_saturating: whether G ascends f(D(theta) - D(0)) instead of descending
      what D ascends. The linearisation at 0 is the same.

  Returns:
    (d theta / dt, d psi / dt), `[2]`.
  """

  def d_objective(psi, theta):
    real = psi * 0.0  # D at the data, which sit at 0.
    fake = psi * theta
    slopes = gamma1 / 2 * psi**2 + gamma2 / 2 * psi**2
    return f(real - fake) - slopes

  def g_objective(theta, psi):
    real = psi * 0.0
    fake = psi * theta
    return f(fake - real) if non_saturating else -f(real - fake)

  theta, psi = point
  return jnp.stack(
    [jax.grad(g_objective)(theta, psi), jax.grad(d_objective)(psi, theta)]
  )


@functools.partial(
  jax.jit, static_argnames=("num_steps", "method", "f", "non_saturating")
)
def dirac_orbit(
  start: ArrayLike, num_steps: int, dt: float, method: str = "rk4", **game: Any
) -> jax.Array:
  """Follows the Dirac-GAN from (theta, psi).

  Args:
    start: (theta, psi), `[2]`.
    num_steps: how many steps.
    dt: time per step: the learning rate of both players.
    method: "rk4", nearly the continuous flow, or "euler", which is
      simultaneous gradient descent.
    **game: of `dirac_field`.

  Returns:
    The orbit, `[num_steps + 1, 2]`.
  """

  def field(point):
    return dirac_field(point, **game)

  def euler(point):
    return point + dt * field(point)

  def rk4(point):
    # The classical method of Runge and Kutta, of order 4: its error after a
    # given time falls with dt^4, so its orbit is that of the flow.
    k1 = field(point)
    k2 = field(point + dt / 2 * k1)
    k3 = field(point + dt / 2 * k2)
    k4 = field(point + dt * k3)
    return point + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

  move = {"euler": euler, "rk4": rk4}[method]

  def step(point, _):
    return move(point), point

  return jax.lax.scan(step, jnp.asarray(start, float), None, num_steps + 1)[1]


def dirac_eigenvalues(**game: Any) -> np.ndarray:
  """Eigenvalues of the flow at its equilibrium (0, 0), complex `[2]`.

  -gamma / 2 +- sqrt(gamma^2 / 4 - f'(0)^2) with gamma = gamma1 + gamma2: a
  centre without a penalty, critically damped at gamma = 2 |f'(0)|.
  """

  def field(point):
    return dirac_field(point, **game)

  jacobian = jax.jit(jax.jacobian(field))(jnp.zeros(2))
  return np.linalg.eigvals(np.asarray(jacobian)).astype(complex)
