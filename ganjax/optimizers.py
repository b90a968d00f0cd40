"""Optimizers: any name of optax, any schedule for any number of theirs.

A spec is a dict with `name` and the optimizer's own arguments. A number may
itself be a spec, of a schedule over updates:
`dict(name="adam", learning_rate=dict(name="cosine_decay_schedule", ...))`.
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
  return found


def get(
  name: str,
  clip_gradients: float | None = None,
  clip_weights: float | None = None,
  **hyper: Any,
) -> optax.GradientTransformation:
  """Returns the optimizer of a spec.

  Args:
    name: e.g. "adam", "sgd", "rmsprop", "classical_momentum".
    clip_gradients: the largest norm that all gradients together may have.
    clip_weights: the largest absolute value of a parameter after a step, as in
      WGAN (Arjovsky et al. 2017, algorithm 1: 0.01).
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
  return optimizer


def weight_clipping(limit: float) -> optax.GradientTransformation:
  """Shortens updates such that no parameter leaves [-limit, limit]."""

  def update(updates, params=None):
    if params is None:
      raise ValueError("weight clipping needs the parameters")
    inside = lambda u, p: jnp.clip(p + u, -limit, limit) - p
    return jax.tree.map(inside, updates, params)

  return optax.stateless(update)


def get_schedule(name: str, **hyper: Any) -> optax.Schedule:
  """Returns the schedule of a spec: updates so far -> number."""
  given = {k: v for k, v in hyper.items() if v is not None}
  return find_schedule(name)(**given)


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
