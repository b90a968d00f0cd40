"""A finished or running run: `ganjax.load(workdir).sample(64)`."""

import dataclasses
import json
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganjax import data, errors
from ganjax.data import scaling
from ganjax.evaluation import metrics
from ganjax.runs import checkpoint, configs
from ganjax.runs.history import read_history
from ganjax.runs.sampler import Sampler
from ganjax.systems import System


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained system; needs no dataset and no network.

  Attributes:
    config: what was run, resolved.
    workdir: where it is.
    step: generator updates of `state`.
    state: of the system.
    sampler: of its system.
  """

  config: configs.Config
  workdir: pathlib.Path
  step: int
  state: Any
  sampler: Sampler

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

  def latents(
    self, n: int, seed: int = 0, truncation: float = 0.0
  ) -> np.ndarray:
    """Draws z, float32 `[n, z_dim]`: those of `sample` with the same seed.

    Raises:
      UserError: this system has no latents.
    """
    return self.sampler.latents(n, seed, truncation)

  def decode(self, z: np.ndarray, labels=None, ema: bool = True) -> np.ndarray:
    """Returns the samples of z `[n, z_dim]`, in the form of `sample`'s.

    Batch norm takes its running statistics. The other arguments are those of
    `sample`.

    Raises:
      UserError: this system has no latents, or labels that do not fit.
    """
    return self.sampler.decode(self.state, z, labels, ema)

  def score(self, images: np.ndarray, labels=None) -> np.ndarray:
    """Returns the discriminator's logits, float32 `[n]`, of stored images.

    Args:
      images: uint8 `[n, H, W, C]`, or float32 points `[n, 2]`.
      labels: int `[n]`, for conditional discriminators.

    Raises:
      UserError: this system has no judge of single images.
    """
    return self.sampler.score(self.state, images, labels)

  def encode(self, images: np.ndarray, labels=None) -> np.ndarray:
    """Returns the latents z, float32 `[n, z_dim]`, of stored images.

    Raises:
      UserError: this system has no encoder.
    """
    return self.sampler.encode(self.state, images, labels)

  def classify(self, images: np.ndarray) -> np.ndarray:
    """Returns class logits, float32 `[n, num_classes]`, of stored images.

    Raises:
      UserError: this system is no classifier.
    """
    return self.sampler.classify(self.state, images)

  def log_likelihood(
    self, images: np.ndarray, labels=None, draws: int = 50
  ) -> dict[str, np.ndarray]:
    """Returns bounds on the log of images' densities in nats, each `[n]`.

    Raises:
      UserError: this system has no density, or draws is not positive.
    """
    return self.sampler.log_likelihood(self.state, images, labels, draws)

  def reconstruct(self, images: np.ndarray, labels=None) -> np.ndarray:
    """Returns what is left of stored images on their way through the system.

    Raises:
      UserError: this system does not reconstruct.
    """
    return self.sampler.reconstruct(self.state, images, labels)

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
    return dict(
      step=self.step,
      truncation=float(truncation),
      weights="ema" if averaged else "live",
      statistics=statistics or system.statistics,
      labels="balanced" if system.conditional else "none",
    )

  def history(self) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`."""
    return read_history(self.workdir)


def load(
  workdir: str | pathlib.Path, step: int | Literal["best"] | None = None
) -> Run:
  """Loads a run from its workdir.

  Args:
    workdir: of a training run.
    step: which checkpoint: the newest if None, or "best" by the config's
      `checkpoint.best`.

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
  best = config.checkpoint.best
  if step == "best" and not best:
    raise errors.UserError(
      f"{workdir} keeps no best: config.checkpoint.best=''"
    )
  better = metrics.better(best) or "lower"
  with checkpoint.Checkpoints(
    folder, best=best, better=better, read_only=True
  ) as checkpoints:
    found = checkpoints.best() if step == "best" else step
    state = checkpoints.restore(like, found)
    found = max(checkpoints.steps()) if found is None else found
  return Run(config, workdir, int(found), state, Sampler(system, stored))


def read_config(workdir: pathlib.Path):
  """Returns a run's config, image shape and number of classes.

  Raises:
    UserError: `workdir` holds no run.
  """
  path = workdir / "config.json"
  members = sorted(workdir.glob("*/config.json"))
  if members and not path.is_file():
    raise errors.UserError(
      f"{workdir} holds {len(members)} runs; take one of them, such as "
      f"{members[0].parent}"
    )
  if not path.is_file():
    raise errors.UserError(f"{workdir} holds no run: there is no {path}")
  try:
    saved = json.loads(path.read_text())
    given = ml_collections.ConfigDict(saved["config"])
    shape = tuple(int(size) for size in saved["dataset"]["image_shape"])
    num_classes = int(saved["dataset"]["num_classes"])
  except Exception as error:  # No text, no JSON, or other JSON.
    raise errors.UserError(
      f"{path} is damaged ({' '.join(str(error).split())}): take it from a "
      "copy of the run"
    ) from error
  return configs.resolve(given), shape, num_classes


def abstract_state(system: System, shape: tuple[int, ...], num_classes: int):
  """Returns the shapes and types of the system's state."""
  images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  labels = jax.ShapeDtypeStruct((2,), jnp.int32) if num_classes else None
  arrays = data.Arrays(images, labels, num_classes)
  return jax.eval_shape(system.init, jax.random.key(0), arrays)
