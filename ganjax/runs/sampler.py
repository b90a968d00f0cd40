"""How a system's samples are drawn and judged, as they are stored."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import errors
from ganjax.data import cache, scaling
from ganjax.evaluation import metrics
from ganjax.systems import STATISTICS, System

# Samples are drawn so many at a time, each chunk with its own key: the first
# images of a large draw are those of a small one.
CHUNK = 64

# Standing statistics are those of so many chunks, drawn from latents of this
# seed: they belong to the state, whatever the seed of the samples is.
NUM_STANDING = 16
STANDING_SEED = 2


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Draws samples of any state of a system, as they are stored.

  Attributes:
    system: of the states.
    stored: how its images are stored.
  """

  system: System
  stored: scaling.Scaling

  @functools.cached_property
  def _draw(self) -> Callable[..., Any]:
    """`system.sample`, compiled, of the i-th chunk."""

    def draw(state, key, chunk, labels, **how):
      key = jax.random.fold_in(key, chunk)
      images = self.system.sample(state, key, CHUNK, labels, **how)
      return self.stored.to_stored(images), jnp.isfinite(images).all()

    return jax.jit(draw, static_argnames=("ema", "batch"))

  @functools.cached_property
  def _settle(self) -> Callable[..., Any]:
    """`system.settle`, compiled, of the i-th chunk."""

    def settle(state, key, chunk, labels, **how):
      key = jax.random.fold_in(key, chunk)
      return self.system.settle(state, key, CHUNK, labels, **how)

    return jax.jit(settle, static_argnames=("ema",))

  @functools.cached_property
  def _latents(self) -> Callable[..., jax.Array]:
    def latents(key, chunk, truncation):
      key = jax.random.fold_in(key, chunk)
      return self._needs("latents")(key, CHUNK, truncation)

    return jax.jit(latents)

  @functools.cached_property
  def _decode(self) -> Callable[..., jax.Array]:
    def decode(state, z, labels, ema):
      images = self._needs("decode")(state, z, labels, ema)
      return self.stored.to_stored(images)

    return jax.jit(decode, static_argnames=("ema",))

  @functools.cached_property
  def _score(self) -> Callable[..., jax.Array]:
    return self._of_images("score")

  @functools.cached_property
  def _encode(self) -> Callable[..., jax.Array]:
    return self._of_images("encode")

  @functools.cached_property
  def _classify(self) -> Callable[..., jax.Array]:
    return self._of_images("classify")

  @functools.cached_property
  def _reconstruct(self) -> Callable[..., jax.Array]:
    return self._of_images("reconstruct", self.stored.to_stored)

  @functools.cached_property
  def _log_likelihood(self) -> Callable[..., Any]:
    return self._of_images("log_likelihood")

  def _of_images(self, ability: str, after=lambda x: x):
    """Returns an ability on stored images, compiled."""

    def apply(state, images, labels, **how):
      images = self.stored.to_network(images)
      return after(self._needs(ability)(state, images, labels, **how))

    return jax.jit(apply, static_argnames=("draws",))

  def _needs(self, ability: str) -> Callable[..., jax.Array]:
    if (found := getattr(self.system, ability)) is None:
      raise errors.UserError(f"this run's system has no {ability!r}")
    return found

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
    labels = _labels(self.system, labels, n)
    how = dict(ema=ema, truncation=truncation or None)
    if statistics == "standing":
      key = jax.random.key(STANDING_SEED)
      every = _chunks(_labels(self.system, None, n), NUM_STANDING)
      for i, chunk in enumerate(every):
        state = self._settle(state, key, i, chunk, weight=1 / (i + 1), **how)
    how["batch"] = statistics == "batch"
    key, chunks = jax.random.key(seed), _chunks(labels, -(-n // CHUNK))
    images, text = [], f"drawing {n} samples"
    for i, chunk in enumerate(cache.track(chunks, -(-n // CHUNK), text)):
      image, finite = self._draw(state, key, i, chunk, **how)
      if not finite:
        raise errors.UserError(
          f"samples {i * CHUNK} to {(i + 1) * CHUNK - 1} are not all finite: "
          "this generator diverged; draw from an earlier checkpoint"
        )
      images.append(np.asarray(image))
    return np.concatenate(images)[:n]

  def labels(self, n: int) -> np.ndarray | None:
    """Returns the classes `[n]` of n samples where none are asked for."""
    num = self.system.num_classes if self.system.conditional else 0
    return np.arange(n) % num if num else None

  def latents(self, n: int, seed: int, truncation: float) -> np.ndarray:
    """Returns `[n, z_dim]`: see `Run.latents`."""
    key, num_chunks = jax.random.key(seed), -(-n // CHUNK)
    chunks = [
      self._latents(key, i, truncation or None) for i in range(num_chunks)
    ]
    return np.concatenate(jax.device_get(chunks))[:n]

  def decode(self, state, z, labels, ema) -> np.ndarray:
    """Returns the samples of z: see `Run.decode`."""
    labels = _labels(self.system, labels, len(z))
    labels = None if labels is None else np.resize(labels, len(z))
    decode = functools.partial(self._decode, state, ema=ema)
    return _in_chunks(decode, np.asarray(z, np.float32), labels)

  def score(self, state, images, labels) -> np.ndarray:
    """Returns the logits of images: see `Run.score`."""
    return self._on_images(self._score, state, images, labels)

  def encode(self, state, images, labels) -> np.ndarray:
    """Returns the latents of images: see `Run.encode`."""
    return self._on_images(self._encode, state, images, labels)

  def classify(self, state, images, labels=None) -> np.ndarray:
    """Returns class logits of images, whatever their labels: `Run.classify`."""
    del labels
    return _in_chunks(functools.partial(self._classify, state), images, None)

  def reconstruct(self, state, images, labels) -> np.ndarray:
    """Returns what is left of images: see `Run.reconstruct`."""
    return self._on_images(self._reconstruct, state, images, labels)

  def log_likelihood(self, state, images, labels, draws: int) -> Any:
    """Returns bounds on log p(x): see `Run.log_likelihood`."""
    bound = functools.partial(self._log_likelihood, draws=draws)
    return self._on_images(bound, state, images, labels)

  def abilities(self, state) -> dict[str, Callable[..., Any]]:
    """Returns what the system can do with images `(images, labels, **how)`."""
    return {
      name: functools.partial(getattr(self, name), state)
      for name in metrics.NEEDS
      if getattr(self.system, name) is not None
    }

  def _on_images(self, function, state, images, labels) -> Any:
    if labels is None and self.system.conditional:
      raise errors.UserError("this run's networks need the images' labels, too")
    return _in_chunks(functools.partial(function, state), images, labels)


def _in_chunks(function, array: np.ndarray, labels: Any) -> Any:
  """Returns `function` of the array and its labels, CHUNK rows at a time."""
  parts = []
  for start in range(0, len(array), CHUNK):
    rows = np.arange(start, start + CHUNK) % len(array)  # One compilation.
    taken = None if labels is None else np.int32(np.asarray(labels)[rows])
    parts.append(jax.device_get(function(array[rows], labels=taken)))
  whole = jax.tree.map(lambda *x: np.concatenate(x)[: len(array)], *parts)
  return whole


def _labels(system: System, labels: Any, n: int) -> np.ndarray | None:
  """Returns the classes to draw in turn, None where there are no labels.

  Raises:
    UserError: labels that are not of the system's classes, or not n.
  """
  num = system.num_classes
  if labels is None:
    return np.arange(num) if num else None
  if not system.conditional:
    why = "generator is unconditional" if num else "dataset has no labels"
    raise errors.UserError(f"this run's {why}: draw samples without labels")
  labels = np.asarray(labels)
  if labels.shape not in ((), (n,)):
    raise errors.UserError(
      f"labels of shape {labels.shape} must be one class, or a class for each "
      f"of the {n} samples"
    )
  wrong = np.setdiff1d(labels, np.arange(num))
  if wrong.size:
    raise errors.UserError(
      f"labels must be classes from 0 to {num - 1}, not {wrong[0]}"
    )
  return labels


def _chunks(labels: np.ndarray | None, count: int) -> Iterable[Any]:
  """Returns int32 labels `[count, CHUNK]` in turn, or as many times None."""
  if labels is None:
    return [None] * count
  return np.resize(labels, (count, CHUNK)).astype(np.int32)
