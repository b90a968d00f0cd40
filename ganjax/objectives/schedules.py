"""Schedules: numbers that change over training.

A schedule is a function `step -> number`, of which the step may be traced. Its
spec is a dict with `name` and the schedule's own arguments, and may stand in a
config wherever a number of an optimizer, a penalty or an augmentation may:
`gamma=dict(name="cosine", init_value=2.0, end_value=0.1, decay_steps=1e4)`.

`SCHEDULES` holds those of this file and those of `optax.schedules`; one of a
user's own is registered by `@SCHEDULES.register` or named `module:attribute`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from ganjax import parallel, registry

# What optax calls a schedule: updates so far -> number.
Schedule: TypeAlias = optax.Schedule
# A number of a config: itself, or the spec of a schedule.
Number: TypeAlias = float | Mapping[str, Any]

SCHEDULES = registry.Registry("schedule")


def _register_those_of_optax() -> None:
  """Registers every schedule of optax under its name there."""
  for name, function in vars(optax.schedules).items():
    if not inspect.isfunction(function):
      continue
    # All that starts somewhere; this leaves out what joins other schedules or
    # injects them, since a config cannot write those arguments down.
    if "init_value" in inspect.signature(function).parameters:
      SCHEDULES.register(function, name=name)


_register_those_of_optax()


def find_schedule(name: str) -> Callable[..., Schedule]:
  """Returns the function that makes the schedule `name`.

  Args:
    name: of this file, of `optax.schedules`, registered, or
      `module:attribute`.

  Raises:
    UserError: there is no such schedule.
  """
  return SCHEDULES.find(name)


def get_schedule(name: str, **hyper: Any) -> Schedule:
  """Returns the schedule of a spec.

  Args:
    name: see `find_schedule`.
    **hyper: the schedule's arguments. One that is None is left out, so that
      its default holds.

  Raises:
    UserError: there is no such schedule.
  """
  given = {key: value for key, value in hyper.items() if value is not None}
  return find_schedule(name)(**given)


def follow(make: Callable[..., Any], **hyper: Any) -> Any:
  """Makes a thing whose numbers may follow schedules.

  Args:
    make: `(**hyper) -> thing`, a NamedTuple with a field `at`: a penalty or an
      augmentation. In a step the numbers that it is given are traced.
    **hyper: its arguments: values, or specs of schedules over generator steps.

  Returns:
    `make(**hyper)` if no argument is a spec. Else the thing with the numbers
    of step 0, whose `at(step)` returns the thing with the numbers of a step.
  """
  schedules = {
    key: get_schedule(**spec)
    for key, spec in hyper.items()
    if isinstance(spec, Mapping)
  }
  if not schedules:
    return make(**hyper)

  def at(step):
    numbers = {key: schedule(step) for key, schedule in schedules.items()}
    return make(**{**hyper, **numbers})

  return at(0)._replace(at=at)


def half_life_decay(half_life: Number, batch_size: int) -> Schedule:
  """Returns the decay of an average that forgets half in so many images.

  The decay is .5^(batch_size / half_life), as in R3GAN's code (Huang et al.
  2025). It is 0 where the half-life is: the average is then a copy.

  Args:
    half_life: a number of real images, or the spec of a schedule of it.
    batch_size: real images of a step.
  """
  if isinstance(half_life, Mapping):
    images = get_schedule(**half_life)
  else:
    images = constant(half_life)

  def schedule(step):
    # In float32 a division by 0 is inf, and exp2(-inf) is the 0 of a copy.
    return jnp.exp2(-batch_size / jnp.float32(images(step)))

  return schedule


@SCHEDULES.register
def constant(value: float) -> Schedule:
  """The same number at every step."""

  def schedule(step):
    del step
    return value

  return schedule


@SCHEDULES.register
def of_member(values: tuple = (1.0,)) -> Schedule:
  """One number for each member of a population, the same at every step.

  Args:
    values: the members' numbers. The first one holds where the step is not
      that of a population.
  """

  def schedule(step):
    del step
    if not parallel.axis_is_bound(parallel.MEMBERS):
      return values[0]
    place = jax.lax.axis_index(parallel.MEMBERS)
    return jnp.array(values, jnp.float32)[place]

  return schedule


@SCHEDULES.register
def running_mean(start: int = 0) -> Schedule:
  """The decay of an average in which all steps from `start` on count equally.

  For `config.ema.decay`: n / (n + 1) at step `start + n`, and 0, which makes a
  copy, before. Yazıcı et al. 2018 (https://arxiv.org/abs/1806.04498) call it
  MA, the uniform moving average.
  """

  def schedule(step):
    count = jnp.float32(jnp.maximum(step - start, 0))
    return count / (count + 1.0)

  return schedule


@SCHEDULES.register
def linear_staircase(
  init_value: float, end_value: float, num_stairs: int, stair_length: int
) -> Schedule:
  """From `init_value` to `end_value` in equal stairs, then constant.

  The momentum of the 2014 nets rose from .5 to .7 in 249 stairs of one epoch
  each.

  Args:
    init_value: the number of the first `stair_length` steps.
    end_value: the number after all stairs.
    num_stairs: how many times the number changes.
    stair_length: steps from one change to the next.
  """

  def schedule(step):
    stairs = jnp.minimum(step // stair_length, num_stairs)
    return init_value + (end_value - init_value) * stairs / num_stairs

  return schedule


@SCHEDULES.register
def cosine(init_value: float, end_value: float, decay_steps: float) -> Schedule:
  """From `init_value` to `end_value` by half a cosine, then constant.

  The number is end + (init - end) (1 + cos(pi t / T)) / 2 with T =
  `decay_steps`. So R3GAN's numbers change (Huang et al. 2025's code), some of
  them upwards, which optax's `cosine_decay_schedule` cannot do: it takes the
  end as a share of the start, and R3GAN's augmentation starts at 0.
  """

  def schedule(step):
    share = jnp.minimum(step / decay_steps, 1.0)
    fall = (1.0 + jnp.cos(jnp.pi * share)) / 2.0
    return end_value + (init_value - end_value) * fall

  return schedule
