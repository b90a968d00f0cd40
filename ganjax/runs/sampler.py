"""What a trained system makes and says, in the form in which images are stored.

A system knows what networks see: float images in some range, in whole batches,
traced. A `Sampler` stands between it and a user, who has uint8 images and any
number of them: it scales, takes chunks of one size, and compiles each function
once.
"""

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import errors
from ganjax.data import cache, scaling
from ganjax.systems import STATISTICS, System

# Samples are drawn so many at a time, each chunk with its own key: the first
# images of a large draw are those of a small one.
CHUNK = 64

# Standing statistics are those of so many chunks, drawn from latents of this
# seed: they belong to the state, whatever the seed of the samples is.
NUM_STANDING = 16
STANDING_SEED = 2


class AbsentAbility(errors.UserError, AttributeError):
  """A system was asked for what it cannot do.

  It is an `AttributeError`, too, so that `hasattr(run, "encode")` answers.
  """


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Draws samples of any state of a system, and asks it about images.

  Attributes:
    system: of the states.
    stored: how its images are stored.
  """

  system: System
  stored: scaling.Scaling

  def __call__(
    self,
    state: Any,
    n: int,
    labels=None,
    seed: int = 0,
    ema: bool = True,
    truncation: float = 0.0,
    statistics: str = "",
  ) -> np.ndarray:
    """Draws n samples.

    Args:
      state: of the system.
      n: how many.
      labels: as those of `Run.sample`.
      seed: of the latents.
      ema: from the averaged generator, where there is one.
      truncation: the largest component of z, 0 for no bound: a lower one gives
        samples of more quality and less variety (Brock et al. 2019).
      statistics: a way of `systems.STATISTICS`; "" for the config's. With
        "batch" an image depends on its chunk, whose labels are those given,
        again from the first until there are 64.

    Returns:
      uint8 images `[n, H, W, C]`, or float32 points `[n, 2]`.

    Raises:
      UserError: one of them is out of range, or the samples are not finite.
    """
    if n < 1:
      raise errors.UserError(f"cannot draw {n} samples; ask for 1 or more")
    if not 0 <= truncation < math.inf:
      raise errors.UserError(
        f"truncation={truncation} must be above 0, or 0 for none"
      )
    statistics = statistics or self.system.statistics
    if statistics not in STATISTICS:
      raise errors.unknown("statistics", statistics, STATISTICS)
    labels = _labels_to_draw(self.system, labels, n)
    bound = truncation or None
    if statistics == "standing":
      state = self._standing(state, n, ema, bound)
    key = jax.random.key(seed)
    num_chunks = -(-n // CHUNK)
    chunks = cache.track(
      _label_chunks(labels, num_chunks), num_chunks, f"drawing {n} samples"
    )
    images = []
    for i, chunk in enumerate(chunks):
      image, finite = self._sample(
        state,
        key,
        i,
        chunk,
        ema=ema,
        truncation=bound,
        batch=statistics == "batch",
      )
      if not finite:
        raise errors.UserError(
          f"samples {i * CHUNK} to {(i + 1) * CHUNK - 1} are not all finite: "
          "this generator diverged; draw from an earlier checkpoint"
        )
      images.append(np.asarray(image))
    return np.concatenate(images)[:n]

  def labels(self, n: int) -> np.ndarray | None:
    """Returns the classes `[n]` of n samples where none are asked for."""
    num_classes = self.system.num_classes
    if not self.system.conditional or not num_classes:
      return None
    return np.arange(n) % num_classes

  def latents(self, n: int, seed: int, truncation: float) -> np.ndarray:
    """Returns `[n, z_dim]`: see `Run.latents`."""
    key = jax.random.key(seed)
    chunks = [
      self._latents(key, i, truncation or None) for i in range(-(-n // CHUNK))
    ]
    return np.concatenate(jax.device_get(chunks))[:n]

  def decode(
    self, state: Any, z: np.ndarray, labels: Any, ema: bool
  ) -> np.ndarray:
    """Returns the samples of z: see `Run.decode`."""
    labels = _labels_to_draw(self.system, labels, len(z))
    if labels is not None:
      labels = np.resize(labels, len(z))

    def decode(z, labels):
      return self._decode(state, z, labels, ema=ema)

    return _in_chunks(decode, np.asarray(z, np.float32), labels)

  def abilities(self, state: Any) -> dict[str, Callable[..., Any]]:
    """Returns what the system can do with images.

    Args:
      state: of the system.

    Returns:
      Name -> `(images, labels=None, **how)`, as `apply` with that name.
    """
    return {name: self.ability(state, name) for name in self._abilities}

  def ability(self, state: Any, name: str) -> Callable[..., Any]:
    """Returns `apply` with a state and the name of an ability.

    Raises:
      AbsentAbility: the system does not have it.
    """
    self._find(name)
    return functools.partial(self.apply, state, name)

  def apply(
    self, state: Any, ability: str, images: np.ndarray, labels=None, **how: Any
  ) -> Any:
    """Returns what an ability of the system makes of stored images.

    Args:
      state: of the system.
      ability: the name of one of its abilities, such as "score" or "encode".
      images: uint8 `[n, H, W, C]`, or float32 points `[n, 2]`.
      labels: int `[n]`, for conditional systems; an ability that takes no
        labels ignores them.
      **how: further arguments of the ability. Whole numbers, booleans and
        texts are constants of the compiled function, so that each new value
        compiles it again; all others are its inputs.

    Returns:
      Arrays of n rows, on the host: a pytree as the ability returns it, or for
      one that returns images, images as they are stored.

    Raises:
      AbsentAbility: the system does not have it.
      UserError: the labels are missing or not n, or what the ability refuses.
    """
    function = self._find(ability)
    if not function.takes_labels:
      labels = None
    elif labels is None and self.system.conditional:
      raise errors.UserError("this run's networks need the images' labels, too")
    if labels is not None and np.shape(labels) != (len(images),):
      raise errors.UserError(
        f"labels of shape {np.shape(labels)} must be a class for each of the "
        f"{len(images)} images"
      )
    constants = frozenset(
      key for key, x in how.items() if isinstance(x, (numbers.Integral, str))
    )
    if (ability, constants) not in self._compiled:
      self._compiled[ability, constants] = self._compile(ability, constants)
    compiled = self._compiled[ability, constants]

    def of_rows(images, labels):
      return compiled(state, images, labels, **how)

    return _in_chunks(of_rows, images, labels)

  @functools.cached_property
  def _abilities(self) -> Mapping[str, Any]:
    """The system's abilities by their names."""
    return self.system.abilities()

  @functools.cached_property
  def _compiled(self) -> dict[tuple[str, frozenset[str]], Callable[..., Any]]:
    """Name and constant arguments -> the compiled ability."""
    return {}

  def _find(self, ability: str) -> Any:
    """Returns an ability of the system.

    Raises:
      AbsentAbility: the system does not have it.
    """
    if ability not in self._abilities:
      known = ", ".join(sorted(self._abilities)) or "none"
      raise AbsentAbility(
        f"this run's system has no ability {ability!r}; it has: {known}"
      )
    return self._abilities[ability]

  def _compile(
    self, ability: str, constants: frozenset[str]
  ) -> Callable[..., Any]:
    """Returns `(state, images, labels, **how)` of stored images, compiled."""
    function = self._find(ability)

    def apply(state, images, labels, **how):
      if function.takes_labels:
        how["labels"] = labels
      found = function(state, self.stored.to_network(images), **how)
      if function.returns == "images":
        return self.stored.to_stored(found)
      return found

    return jax.jit(apply, static_argnames=tuple(sorted(constants)))

  @functools.cached_property
  def _sample(self) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`system.sample` of the i-th chunk, and whether all of it is finite."""

    def sample(state, key, chunk, labels, **how):
      key = jax.random.fold_in(key, chunk)
      images = self.system.sample(state, key, CHUNK, labels, **how)
      return self.stored.to_stored(images), jnp.isfinite(images).all()

    return jax.jit(sample, static_argnames=("ema", "batch"))

  def _standing(
    self, state: Any, n: int, ema: bool, bound: float | None
  ) -> Any:
    """Returns the state with the statistics of many batches of samples.

    Their running mean: the i-th of them, from 0, has the weight 1 / (i + 1).
    """
    key = jax.random.key(STANDING_SEED)
    # Of all classes, whatever the classes of the samples are.
    labels = _labels_to_draw(self.system, None, n)
    for i, chunk in enumerate(_label_chunks(labels, NUM_STANDING)):
      state = self._settle(
        state, key, i, chunk, weight=1 / (i + 1), ema=ema, truncation=bound
      )
    return state

  @functools.cached_property
  def _settle(self) -> Callable[..., Any]:
    """`system.settle`, compiled, of the i-th chunk."""

    def settle(state, key, chunk, labels, **how):
      key = jax.random.fold_in(key, chunk)
      return self.system.settle(state, key, CHUNK, labels, **how)

    return jax.jit(settle, static_argnames=("ema",))

  @functools.cached_property
  def _latents(self) -> Callable[..., jax.Array]:
    """`system.latents`, compiled, of the i-th chunk."""

    def latents(key, chunk, truncation):
      key = jax.random.fold_in(key, chunk)
      return self._needs("latents")(key, CHUNK, truncation)

    return jax.jit(latents)

  @functools.cached_property
  def _decode(self) -> Callable[..., jax.Array]:
    """`system.decode`, compiled, with its images as they are stored."""

    def decode(state, z, labels, ema):
      images = self._needs("decode")(state, z, labels, ema)
      return self.stored.to_stored(images)

    return jax.jit(decode, static_argnames=("ema",))

  def _needs(self, method: str) -> Callable[..., jax.Array]:
    """Returns a method that only systems with latents have."""
    found = getattr(self.system, method, None)
    if found is None:
      raise errors.UserError(f"this run's system has no {method!r}")
    return found


def _in_chunks(
  function: Callable[[np.ndarray, Any], Any], array: np.ndarray, labels: Any
) -> Any:
  """Returns `function` of an array and its labels, CHUNK rows at a time.

  Args:
    function: `(rows [CHUNK, ...], labels int32 [CHUNK] or None)` -> a pytree of
      arrays with as many rows.
    array: `[n, ...]`.
    labels: `[n]` or None.

  Returns:
    The pytree with n rows, on the host.
  """
  parts = []
  for start in range(0, len(array), CHUNK):
    # The last chunk is filled up from the first row on, since another size
    # would be compiled again.
    rows = np.arange(start, start + CHUNK) % len(array)
    taken = None if labels is None else np.int32(np.asarray(labels)[rows])
    parts.append(jax.device_get(function(array[rows], taken)))
  return jax.tree.map(lambda *x: np.concatenate(x)[: len(array)], *parts)


def _labels_to_draw(system: System, labels: Any, n: int) -> np.ndarray | None:
  """Returns the classes to draw in turn, None where there are no labels.

  Raises:
    UserError: labels that are not of the system's classes, or not n.
  """
  num_classes = system.num_classes
  if labels is None:
    return np.arange(num_classes) if num_classes else None
  if not system.conditional:
    why = (
      "generator is unconditional" if num_classes else "dataset has no labels"
    )
    raise errors.UserError(f"this run's {why}: draw samples without labels")
  labels = np.asarray(labels)
  if labels.shape not in ((), (n,)):
    raise errors.UserError(
      f"labels of shape {labels.shape} must be one class, or a class for each "
      f"of the {n} samples"
    )
  wrong = np.setdiff1d(labels, np.arange(num_classes))
  if wrong.size:
    raise errors.UserError(
      f"labels must be classes from 0 to {num_classes - 1}, not {wrong[0]}"
    )
  return labels


def _label_chunks(
  labels: np.ndarray | None, count: int
) -> Iterable[np.ndarray | None]:
  """Returns labels in turn, int32 `[count, CHUNK]`, or `count` times None."""
  if labels is None:
    return [None] * count
  return np.resize(labels, (count, CHUNK)).astype(np.int32)
