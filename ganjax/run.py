"""A finished or running run: `ganjax.load(workdir).sample(64)`."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganjax import checkpoint, configs, data, errors, logs
from ganjax.data import scaling
from ganjax.systems import STATISTICS, System

# Samples are drawn so many at a time, each chunk with its own key: the first
# images of a large draw are those of a small one.
CHUNK = 64

# Standing statistics are those of so many chunks, drawn from latents of this
# seed: they belong to the state, whatever the seed of the samples is.
NUM_STANDING = 16
STANDING_SEED = 2


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained system; needs no dataset and no network.

  Attributes:
    config: what was run, resolved.
    workdir: where it is.
    step: generator updates of `state`.
    state: of the system.
    sampler: of `make_sampler`.
  """

  config: configs.Config
  workdir: pathlib.Path
  step: int
  state: Any
  sampler: "Sampler"

  def sample(self, n: int, labels=None, seed: int = 0, **how) -> np.ndarray:
    """Draws images: uint8 `[n, H, W, C]`, or float32 points `[n, 2]`.

    Args:
      n: how many.
      labels: a class or `[n]` of them, for conditional generators; all of
        them in turn if None.
      seed: the same seed gives the same latents.
      **how: `ema`, `truncation` and `statistics`, see `Sampler`.

    Raises:
      UserError: n is not positive, or something that does not fit the run.
    """
    return self.sampler(self.state, n, labels, seed, **how)

  def protocol(
    self, ema: bool = True, truncation: float = 0.0, statistics: str = ""
  ) -> dict[str, Any]:
    """Returns how `sample` draws with these, for the protocol of a record.

    Labels are "balanced" (all classes in turn), or "none" where the generator
    is unconditional.
    """
    system, averaged = (
      self.sampler.system,
      ema and any(self.config.ema.values()),
    )
    how = {"truncation": truncation} if truncation else {}
    return how | dict(
      step=self.step,
      weights="ema" if averaged else "live",
      statistics=statistics or system.statistics,
      labels="balanced" if system.conditional else "none",
    )

  def history(self) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`."""
    return logs.read_history(self.workdir)


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Draws samples of any state of a system, as they are stored.

  Attributes:
    system: of the states.
    draw: `system.sample`, compiled, of the i-th chunk.
    settle: `system.settle`, compiled, of the i-th chunk.
  """

  system: System
  draw: Callable[..., jax.Array]
  settle: Callable[..., Any]

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
      UserError: one of them is out of range.
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
        state = self.settle(state, key, i, chunk, weight=1 / (i + 1), **how)
    how["batch"] = statistics == "batch"
    key, chunks = jax.random.key(seed), _chunks(labels, -(-n // CHUNK))
    images = [
      np.asarray(self.draw(state, key, i, chunk, **how))
      for i, chunk in enumerate(chunks)
    ]
    return np.concatenate(images)[:n]


def make_sampler(system: System, stored: scaling.Scaling) -> Sampler:
  """Returns the sampler of a system, whose images `stored` scales back."""

  def draw(state, key, chunk, labels, **how):
    key = jax.random.fold_in(key, chunk)
    return stored.to_stored(system.sample(state, key, CHUNK, labels, **how))

  def settle(state, key, chunk, labels, **how):
    key = jax.random.fold_in(key, chunk)
    return system.settle(state, key, CHUNK, labels, **how)

  jit = functools.partial(jax.jit, static_argnames=("ema", "batch"))
  return Sampler(system, jit(draw), jit(settle))


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


def load(workdir: str | pathlib.Path, step: int | None = None) -> Run:
  """Loads a run from its workdir.

  Args:
    workdir: of a training run.
    step: which checkpoint; the newest if None.

  Raises:
    UserError: there is no run, or no such checkpoint.
  """
  workdir = pathlib.Path(workdir)
  config, shape, num_classes = read_config(workdir)
  stored = scaling.SCALINGS.find(config.scaling)()
  system = configs.build(config, shape, num_classes)
  like = abstract_state(system, shape, num_classes)
  folder = workdir / "checkpoints"
  if not folder.is_dir():
    raise errors.UserError(f"{workdir} holds no checkpoint yet")
  with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
    state = checkpoints.restore(like, step)
    step = max(checkpoints.steps()) if step is None else step
  return Run(config, workdir, step, state, make_sampler(system, stored))


def read_config(workdir: pathlib.Path):
  """Returns a run's config, image shape and number of classes.

  Raises:
    UserError: `workdir` holds no run.
  """
  path = workdir / "config.json"
  if not path.is_file():
    raise errors.UserError(f"{workdir} holds no run: there is no {path}")
  saved = json.loads(path.read_text())
  config = configs.resolve(ml_collections.ConfigDict(saved["config"]))
  dataset = saved["dataset"]
  return config, tuple(dataset["image_shape"]), dataset["num_classes"]


def abstract_state(system: System, shape: tuple[int, ...], num_classes: int):
  """Returns the shapes and types of the system's state."""
  images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  labels = jax.ShapeDtypeStruct((2,), jnp.int32) if num_classes else None
  arrays = data.Arrays(images, labels, num_classes)
  return jax.eval_shape(system.init, jax.random.key(0), arrays)
