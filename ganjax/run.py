"""A finished or running run: `ganjax.load(workdir).sample(64)`."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganjax import checkpoint, configs, data, errors, logs
from ganjax.data import scaling
from ganjax.systems import System

# Samples are drawn so many at a time, each chunk with its own key: the first
# images of a large draw are those of a small one.
CHUNK = 64


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
  sampler: Callable[..., np.ndarray]

  def sample(self, n: int, labels=None, seed: int = 0, ema: bool = True):
    """Draws images: uint8 `[n, H, W, C]`, or float32 points `[n, 2]`.

    Args:
      n: how many.
      labels: classes `[n]`, for conditional systems.
      seed: the same seed gives the same latents.
      ema: from the averaged generator, where there is one.

    Raises:
      UserError: n is not positive, or labels that do not fit.
    """
    return self.sampler(self.state, n, labels, seed, ema)

  def history(self) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`."""
    return logs.read_history(self.workdir)


def make_sampler(system: System, stored: scaling.Scaling):
  """Returns `(state, n, labels, seed, ema) -> images` as they are stored."""

  def draw(state, key, chunk, ema):
    key = jax.random.fold_in(key, chunk)
    return stored.to_stored(system.sample(state, key, CHUNK, ema=ema))

  draw = jax.jit(draw, static_argnames="ema")

  def sample(state, n, labels=None, seed=0, ema=True) -> np.ndarray:
    if n < 1:
      raise errors.UserError(f"cannot draw {n} samples; ask for 1 or more")
    if labels is not None:
      raise errors.UserError(
        "this system is unconditional: draw samples without labels"
      )
    key = jax.random.key(seed)
    chunks = range(-(-n // CHUNK))
    images = [np.asarray(draw(state, key, i, ema)) for i in chunks]
    return np.concatenate(images)[:n]

  return sample


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
