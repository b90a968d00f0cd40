"""Optimizers: those of optax by their names, and rules around any of them.

The spec of an optimizer is a dict with `name` and the optimizer's own
arguments. A number may itself be a spec, of a schedule over updates:
`dict(name="adam", learning_rate=dict(name="cosine_decay_schedule", ...))`.

`OPTIMIZERS` holds those of this file, of `optax` and of `optax.contrib`; one
of a user's own is registered by `@OPTIMIZERS.register` or named
`module:attribute`. It is any function that takes `learning_rate` and returns
an `optax.GradientTransformation` whose update needs gradients and parameters
alone.

`muon` orthogonalises the updates of matrices alone, as optax has it: biases
and the kernels of convolutions are trained by Adam.

The schedule-free optimizers (`schedule_free_sgd`, `schedule_free_adamw`;
Defazio et al. 2024) know three sequences of parameters. The network's are y,
where gradients are taken, and samples are drawn from y, too, not from the
average x that the paper evaluates. Where the config has an EMA, samples are
drawn from the EMA of y, as with every optimizer.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from ganjax import errors, registry
from ganjax.objectives import schedules

Optimizer: TypeAlias = optax.GradientTransformation

OPTIMIZERS = registry.Registry("optimizer")

_NEEDS_LOSS = "its update needs the loss, which a step does not hand on"
_HOLDS_KEY = "its state holds a random key, which no checkpoint can keep"
_IS_A_PART = "it is a part of an optimizer, not a whole one"
# Functions of optax with a learning rate that a config cannot use, and why.
UNFIT = {
  "dog": "its init_step is a pair of a text and a number, which no config has",
  "dpsgd": "its update needs the gradient of each example alone",
  "galore": "its state holds empty arrays, which no checkpoint can keep",
  "lbfgs": _NEEDS_LOSS,
  "momo": _NEEDS_LOSS,
  "momo_adam": _NEEDS_LOSS,
  "noisy_sgd": _HOLDS_KEY,
  "scale_by_learning_rate": _IS_A_PART,
  "scale_by_madgrad": _IS_A_PART,
  "scale_by_rprop": _IS_A_PART,
  "schedule_free": "it is built around another optimizer; there are "
  "schedule_free_sgd and schedule_free_adamw",
  "sophia": _NEEDS_LOSS,
}


def _register_those_of_optax() -> None:
  """Registers every fit optimizer of optax under its name there."""
  # Optax itself comes last: its name holds where `contrib` has the same one.
  for module in (contrib, optax):
    for name, function in vars(module).items():
      if not inspect.isfunction(function) or name.startswith("_"):
        continue
      is_optimizer = "learning_rate" in inspect.signature(function).parameters
      if is_optimizer and name not in UNFIT:
        OPTIMIZERS.register(function, name=name)


_register_those_of_optax()


def find(name: str) -> Callable[..., Optimizer]:
  """Returns the function that makes the optimizer `name`.

  Args:
    name: of this file, of `optax`, of `optax.contrib`, registered, or
      `module:attribute`.

  Raises:
    UserError: there is no such optimizer, or training cannot use it.
  """
  if name in UNFIT and name not in OPTIMIZERS:
    raise errors.UserError(
      f"optimizer {name!r} of optax cannot be used here: {UNFIT[name]}"
    )
  return OPTIMIZERS.find(name)


def get(
  name: str,
  clip_gradients: float | None = None,
  clip_weights: float | None = None,
  max_column_norm: float | None = None,
  **hyper: Any,
) -> Optimizer:
  """Returns the optimizer of a spec.

  Args:
    name: see `find`, e.g. "adam", "sgd", "muon", "classical_momentum".
    clip_gradients: the largest norm that all gradients together may have.
    clip_weights: the largest absolute value of a parameter after a step, as in
      WGAN (Arjovsky et al. 2017, algorithm 1: 0.01).
    max_column_norm: the largest norm of a unit's incoming weights after a
      step (Goodfellow et al. 2014's TFD nets: 1.9365).
    **hyper: the optimizer's arguments: numbers, specs of schedules, or None
      for those that are left out.

  Raises:
    UserError: there is no such optimizer or schedule, or a number does not
      suit it.
  """
  arguments = {
    key: schedules.get_schedule(**value)
    if isinstance(value, Mapping)
    else value
    for key, value in hyper.items()
    if value is not None
  }
  make = find(name)
  if name.startswith("schedule_free") and arguments.get("b1") == 0:
    # Optax keeps y and z and finds x as (y - (1 - b1) z) / b1: 0 / 0.
    raise errors.UserError(f"optimizer {name!r} needs a b1 above 0, e.g. 0.9")
  scheduled = {key for key, value in arguments.items() if callable(value)}
  # Optax's optimizers follow a schedule of the learning rate by themselves.
  # Schedules of other numbers go through hyper-parameters in the state.
  if scheduled - {"learning_rate"}:
    make = optax.inject_hyperparams(make)
  optimizer = make(**arguments)
  # Gradients are clipped before the optimizer's moments see them, parameters
  # after the step that the optimizer wants.
  if clip_gradients is not None:
    clip = optax.clip_by_global_norm(clip_gradients)
    optimizer = optax.chain(clip, optimizer)
  if clip_weights is not None:
    optimizer = optax.chain(optimizer, weight_clipping(clip_weights))
  if max_column_norm is not None:
    optimizer = optax.chain(optimizer, column_clipping(max_column_norm))
  return optimizer


def weight_clipping(limit: float) -> Optimizer:
  """Shortens updates such that no parameter leaves [-limit, limit]."""

  def clip(update, param):
    # The parameter is clipped, but what is returned is the way to there.
    return jnp.clip(param + update, -limit, limit) - param

  def update(updates, params=None):
    if params is None:
      raise ValueError("weight clipping needs the parameters")
    return jax.tree.map(clip, updates, params)

  return optax.stateless(update)


def column_clipping(limit: float) -> Optimizer:
  """Shortens updates such that no column of a kernel is longer than `limit`.

  A column of a parameter `kernel [..., out]` holds all weights into one unit,
  or into one piece of a maxout unit; too long ones keep their direction
  (Srivastava et al. 2014, section 5.1). Other parameters are left alone.
  """

  def clip(path, update, param):
    if path[-1:] != (jax.tree_util.DictKey("kernel"),):
      return update
    new = param + update
    incoming = tuple(range(param.ndim - 1))
    norms = jnp.sqrt(jnp.square(new).sum(incoming, keepdims=True))
    # A column within the limit is scaled by limit / limit, which is 1.
    scale = limit / jnp.maximum(norms, limit)
    return new * jnp.broadcast_to(scale, param.shape) - param

  def update(updates, params=None):
    if params is None:
      raise ValueError("column clipping needs the parameters")
    return jax.tree_util.tree_map_with_path(clip, updates, params)

  return optax.stateless(update)


@OPTIMIZERS.register
def classical_momentum(
  learning_rate: float, momentum: float = 0.5
) -> Optimizer:
  """V <- momentum * v - learning_rate * gradient; p <- p + v.

  The form of pylearn2, with which the nets of 2014 were trained. In `sgd` the
  velocity does not contain the rate, so the two differ once the rate changes:
  here what was gathered at a higher rate keeps it.
  """
  return optax.chain(
    optax.scale_by_learning_rate(learning_rate), optax.trace(decay=momentum)
  )
