"""A GAN on the line, as in figure 1 of Goodfellow et al. 2014.

z is uniform on (0, 1), G is monotone and p_g known in closed form, so that
D's loss is an integral and not an estimate, and D* is there to compare with.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ganjax.objectives import losses
from ganjax.tools import theory

_NON_SATURATING = losses.get("non_saturating").generator
WIDTH = 32  # of D's two hidden layers
SUPPORT = 1e-3  # D is judged where p_data + p_g is above it.

# D's parameters: (kernel, bias) of each layer.
Params: TypeAlias = list[tuple[jax.Array, jax.Array]]


class Generator(NamedTuple):
  """G(z) = mean + scale * probit(z): monotone, and p_g is a Gaussian.

  Attributes:
    mean: of p_g.
    scale: the standard deviation of p_g.
  """

  mean: jax.Array | float
  scale: jax.Array | float

  @jax.jit
  def __call__(self, z: ArrayLike) -> jax.Array:
    """Maps z `[N]`, uniform on (0, 1), to x `[N]`."""
    return self.mean + self.scale * jax.scipy.special.ndtri(jnp.asarray(z))

  @jax.jit
  def density(self, x: ArrayLike) -> jax.Array:
    """p_g at x `[K]`."""
    return jax.scipy.stats.norm.pdf(x, self.mean, self.scale)


DATA = Generator(4.0, 0.5)  # p_data has the same form.
START = Generator(4.6, 0.65)
GRID = np.linspace(0.0, 8.0, 401)  # of the integrals, `[K]`


def uniform(num: int) -> jax.Array:
  """`[num]` values of z, one in the middle of each of `num` equal parts."""
  return (jnp.arange(num) + 0.5) / num


@jax.jit
def init_discriminator(key: jax.Array) -> Params:
  """Returns (kernel, bias) of an MLP's three layers."""
  sizes = (1, WIDTH, WIDTH, 1)
  keys = jax.random.split(key, 3)
  return [
    (jax.random.normal(k, (n, m)) / n**0.5, jnp.zeros(m))
    for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
  ]


@jax.jit
def logits(d: Params, x: ArrayLike) -> jax.Array:
  """D's logits `[N]` at x `[N]`."""
  h = (jnp.asarray(x)[:, None] - DATA.mean) / DATA.scale
  for kernel, bias in d[:-1]:
    h = jnp.tanh(h @ kernel + bias[None])
  kernel, bias = d[-1]
  return (h @ kernel + bias[None])[:, 0]


@jax.jit
def train_discriminator(
  d: Params, g: Generator, num_steps: int, rate: float
) -> Params:
  """Ascends V(D, G) by Adam, its rate falling to 0 along a cosine.

  Args:
    d: the parameters of D.
    g: stands still.
    num_steps: how many steps.
    rate: the first learning rate.

  Returns:
    D's new parameters.
  """

  # optax's own cosine would be compiled anew for each `num_steps`.
  def cosine(step):
    return rate * (1 + jnp.cos(jnp.pi * step / num_steps)) / 2

  optimizer = optax.adam(cosine)
  dx = GRID[1] - GRID[0]
  p_data = DATA.density(GRID)
  p_g = g.density(GRID)

  def loss(d):
    # -V(D, G), from logits: log(1 - D) would round to -inf.
    a = logits(d, GRID)
    return dx * (p_data @ jax.nn.softplus(-a) + p_g @ jax.nn.softplus(a))

  def step(_, carry):
    d, opt_state = carry
    updates, opt_state = optimizer.update(jax.grad(loss)(d), opt_state)
    return optax.apply_updates(d, updates), opt_state

  return jax.lax.fori_loop(0, num_steps, step, (d, optimizer.init(d)))[0]


@functools.partial(jax.jit, static_argnames=("logit_fn", "num_steps"))
def train_generator(
  g: Generator,
  logit_fn: Callable[[Any, jax.Array], jax.Array],
  d: Any,
  num_steps: int,
  rate: float,
) -> Generator:
  """Gradient steps of G against a D that stands still.

  G ascends E log D(G(z)). With many steps every z ends at arg max D: what
  2014, section 6, calls the Helvetica scenario.

  Args:
    g: where to start.
    logit_fn: `logits`, `optimal_logits`, or another `(d, x [N]) -> [N]`.
    d: what `logit_fn` takes first.
    num_steps: how many steps.
    rate: the learning rate.

  Returns:
    The generators of all steps, each field `[num_steps + 1]`.
  """
  z = uniform(200)

  def loss(g):
    fake_logits = logit_fn(d, g(z))
    return _NON_SATURATING(fake_logits, fake_logits)

  def step(g, _):
    return jax.tree.map(lambda x, dx: x - rate * dx, g, jax.grad(loss)(g)), g

  return jax.lax.scan(step, _arrays(g), None, num_steps + 1)[1]


def _arrays(g: Generator) -> Generator:
  """Returns g as arrays that no step changes the type of."""
  return Generator(
    mean=jnp.asarray(g.mean, float), scale=jnp.asarray(g.scale, float)
  )


def optimal_logits(g: Generator, x: ArrayLike) -> jax.Array:
  """Returns D*'s logits, log p_data - log p_g, `[N]` at x `[N]`."""
  logpdf = jax.scipy.stats.norm.logpdf
  return logpdf(x, *DATA) - logpdf(x, *g)


def surest(g: Generator) -> float:
  """Returns arg max D*, which exists if p_g is wider than p_data."""
  # D* is highest where log p_data - log p_g is, a parabola in x whose
  # coefficients are the precisions, 1 / scale^2.
  data = 1 / DATA.scale**2
  fake = 1 / g.scale**2
  return float((data * DATA.mean - fake * g.mean) / (data - fake))


def judged(g: Generator) -> jax.Array:
  """Where on `GRID` D is judged, `[K]` booleans."""
  return DATA.density(GRID) + g.density(GRID) > SUPPORT


@jax.jit
def sup_error(d: Params, g: Generator) -> jax.Array:
  """The largest |D - D*| where p_data + p_g is above `SUPPORT`."""
  best = theory.optimal_discriminator(DATA.density(GRID), g.density(GRID))
  error = jnp.abs(jax.nn.sigmoid(logits(d, GRID)) - best)
  return jnp.where(judged(g), error, 0).max()


@jax.jit
def risen(d: Params, before: Generator, after: Generator) -> jax.Array:
  """The share of z for which D is higher after G's step."""
  z = uniform(1000)
  return (logits(d, after(z)) > logits(d, before(z))).mean()


class Stage(NamedTuple):
  """One panel of figure 1: a generator and D's parameters."""

  g: Generator
  d: Params


def figure_1(
  key: jax.Array,
  d_steps: int = 6000,
  num_rounds: int = 300,
  d_steps_per_g_step: int = 20,
) -> list[Stage]:
  """Plays the four stages of figure 1 (2014).

  Args:
    key: of D's first parameters.
    d_steps: of the inner loop in (b).
    num_rounds: of algorithm 1 between (c) and (d).
    d_steps_per_g_step: k of algorithm 1.

  Returns:
    (a) p_g near p_data, D partly trained; (b) D trained to the end; (c) one
    step of G; (d) after many rounds.
  """
  g = _arrays(START)
  partly = train_discriminator(init_discriminator(key), g, 30, 3e-3)
  d = train_discriminator(partly, g, d_steps, 1e-2)
  stages = [Stage(g, partly), Stage(g, d)]
  g = _g_step(g, d, 0.15)
  stages.append(Stage(g, d))
  for _ in range(num_rounds):
    d = train_discriminator(d, g, d_steps_per_g_step, 3e-3)
    g = _g_step(g, d, 0.1)
  d = train_discriminator(d, g, d_steps // 4, 3e-3)
  return [*stages, Stage(g, d)]


def _g_step(g: Generator, d: Params, rate: float) -> Generator:
  """Returns the generator after one step."""
  both = train_generator(g, logits, d, 1, rate)  # Before the step and after it.
  return Generator(mean=both.mean[1], scale=both.scale[1])
