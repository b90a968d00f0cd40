"""Optimizers: any name of optax, any schedule for any number of theirs.

A spec is a dict with `name` and the optimizer's own arguments. A number may
itself be a spec, of a schedule over updates:
`dict(name="adam", learning_rate=dict(name="cosine_decay_schedule", ...))`.
So may numbers of other parts be: see `follow` and `half_life_decay`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganjax import registry

OPTIMIZERS = registry.Registry("optimizer")
SCHEDULES = registry.Registry("schedule")
# Of optax: parts of optimizers, one that needs the loss itself, and one whose
# state is a typed key, which no checkpoint holds.
UNFIT = ("lbfgs", "noisy_sgd", "scale_by_learning_rate", "scale_by_rprop")


def find(name: str) -> Callable[..., optax.GradientTransformation]:
  """Returns the optimizer `name`, of this file or of optax."""
  return _with_optax(OPTIMIZERS, vars(optax), "learning_rate").find(name)


def find_schedule(name: str) -> Callable[..., optax.Schedule]:
  """Returns the schedule `name`, of this file or of `optax.schedules`."""
  return _with_optax(SCHEDULES, vars(optax.schedules), "init_value").find(name)


def _with_optax(own: registry.Registry, others: Mapping, parameter: str):
  """Adds to `own` the functions of optax that take `parameter`."""
  found = registry.Registry(own.kind)
  for name, value in others.items():
    if inspect.isfunction(value) and not name.startswith("_"):
      if parameter in inspect.signature(value).parameters:
        found[name] = value
  found.update(own)
  for name in UNFIT:
    found.pop(name, None)
  return found


def get(
  name: str,
  clip_gradients: float | None = None,
  clip_weights: float | None = None,
  max_column_norm: float | None = None,
  **hyper: Any,
) -> optax.GradientTransformation:
  """Returns the optimizer of a spec.

  Args:
    name: e.g. "adam", "sgd", "rmsprop", "classical_momentum".
    clip_gradients: the largest norm that all gradients together may have.
    clip_weights: the largest absolute value of a parameter after a step, as in
      WGAN (Arjovsky et al. 2017, algorithm 1: 0.01).
    max_column_norm: the largest norm of a unit's incoming weights after a
      step (Goodfellow et al. 2014's TFD nets: 1.9365).
    **hyper: the optimizer's arguments: numbers, specs of schedules, or None
      for those that are left out.

  Raises:
    UserError: there is no such optimizer or schedule.
  """
  hyper = {
    k: get_schedule(**v) if isinstance(v, Mapping) else v
    for k, v in hyper.items()
    if v is not None
  }
  make = find(name)
  scheduled = {k for k, v in hyper.items() if callable(v)}
  # Optax follows a schedule of the learning rate by itself; of the others,
  # through hyperparameters in the optimizer's state.
  if scheduled - {"learning_rate"}:
    make = optax.inject_hyperparams(make)
  optimizer = make(**hyper)
  if clip_gradients is not None:
    clip = optax.clip_by_global_norm(clip_gradients)
    optimizer = optax.chain(clip, optimizer)
  if clip_weights is not None:
    optimizer = optax.chain(optimizer, weight_clipping(clip_weights))
  if max_column_norm is not None:
    optimizer = optax.chain(optimizer, column_clipping(max_column_norm))
  return optimizer


def weight_clipping(limit: float) -> optax.GradientTransformation:
  """Shortens updates such that no parameter leaves [-limit, limit]."""

  def update(updates, params=None):
    if params is None:
      raise ValueError("weight clipping needs the parameters")
    inside = lambda u, p: jnp.clip(p + u, -limit, limit) - p
    return jax.tree.map(inside, updates, params)

  return optax.stateless(update)


def column_clipping(limit: float) -> optax.GradientTransformation:
  """Shortens updates such that no column of a kernel is longer than `limit`.

  A column of a parameter `kernel [..., out]` holds all weights into one unit,
  or into one piece of a maxout unit; too long ones keep their direction
  (Srivastava et al. 2014, section 5.1). Other parameters are left alone.
  """

  def inside(path, u, p):
    if path[-1:] != (jax.tree_util.DictKey("kernel"),):
      return u
    new = p + u
    squares = jnp.square(new).sum(tuple(range(p.ndim - 1)), keepdims=True)
    norms = jnp.maximum(jnp.sqrt(squares), limit)
    return new * jnp.broadcast_to(limit / norms, p.shape) - p

  def update(updates, params=None):
    if params is None:
      raise ValueError("column clipping needs the parameters")
    return jax.tree_util.tree_map_with_path(inside, updates, params)

  return optax.stateless(update)


def get_schedule(name: str, **hyper: Any) -> optax.Schedule:
  """Returns the schedule of a spec: updates so far -> number."""
  given = {k: v for k, v in hyper.items() if v is not None}
  return find_schedule(name)(**given)


def follow(make: Callable[..., Any], **hyper: Any) -> Any:
  """Returns `make(**hyper)`, whose `at(step)` is made of the numbers then.

  Args:
    make: returns a NamedTuple with a field `at`, a penalty or an augmentation.
      Inside of a step the numbers of schedules are traced.
    **hyper: its arguments: values or specs of schedules over generator steps.
  """
  schedules = {
    k: get_schedule(**v) for k, v in hyper.items() if isinstance(v, Mapping)
  }
  at = lambda step: make(**hyper | {k: s(step) for k, s in schedules.items()})
  return at(0)._replace(at=at) if schedules else make(**hyper)


def half_life_decay(half_life: Any, batch_size: int) -> optax.Schedule:
  """Returns the decay of an average that forgets half in so many images.

  .5^(batch_size / half_life), as R3GAN's: 0, a copy, where half_life is 0.

  Args:
    half_life: real images, or the spec of a schedule of them.
    batch_size: images of a step.
  """
  if isinstance(half_life, Mapping):
    images = get_schedule(**half_life)
  else:
    images = lambda step: half_life
  return lambda step: jnp.exp2(-batch_size / jnp.float32(images(step)))


@OPTIMIZERS.register
def classical_momentum(
  learning_rate: float, momentum: float = 0.5
) -> optax.GradientTransformation:
  """V <- momentum * v - learning_rate * gradient; p <- p + v.

  The form of pylearn2, with which the nets of 2014 were trained. It differs
  from `sgd`, whose velocity does not hold the rate, where the rate changes.
  """
  return optax.chain(
    optax.scale_by_learning_rate(learning_rate), optax.trace(decay=momentum)
  )


@SCHEDULES.register
def constant(value: float) -> optax.Schedule:
  """The same number at every step."""
  return lambda step: value


@SCHEDULES.register
def of_member(values: tuple = (1.0,)) -> optax.Schedule:
  """One number for each member of a population, the same at every step.

  Outside of a population's step, the first one.
  """

  def schedule(step):
    del step
    try:
      place = jax.lax.axis_index("members")
    except NameError:
      return values[0]
    return jnp.array(values, jnp.float32)[place]

  return schedule


@SCHEDULES.register
def running_mean(start: int = 0) -> optax.Schedule:
  """The decay of an average in which all steps from `start` on count equally.

  For `config.ema.decay`: n / (n + 1) at step `start + n`; until then 0, a copy.
  Yazıcı et al. 2018 (https://arxiv.org/abs/1806.04498) call it MA.
  """

  def schedule(step):
    count = jnp.float32(jnp.maximum(step - start, 0))
    return count / (count + 1.0)

  return schedule


@SCHEDULES.register
def linear_staircase(
  init_value: float, end_value: float, num_stairs: int, stair_length: int
) -> optax.Schedule:
  """From `init_value` to `end_value` in stairs, then constant.

  Momentum in 2014 rose from .5 to .7 in 249 stairs of one epoch each.
  """

  def schedule(step):
    stairs = jnp.minimum(step // stair_length, num_stairs)
    return init_value + (end_value - init_value) * stairs / num_stairs

  return schedule


@SCHEDULES.register
def cosine(
  init_value: float, end_value: float, decay_steps: float
) -> optax.Schedule:
  """From `init_value` to `end_value` by half a cosine, then constant.

  end + (init - end) (1 + cos(pi t / T)) / 2 with T = `decay_steps`: how R3GAN's
  numbers change (Huang et al. 2025's code), upwards as well as downwards.
  """

  def schedule(step):
    share = jnp.minimum(step / decay_steps, 1.0)
    fall = (1.0 + jnp.cos(jnp.pi * share)) / 2.0
    return end_value + (init_value - end_value) * fall

  return schedule
