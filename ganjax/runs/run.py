"""A finished or running run: `ganjax.load(workdir).sample(64)`."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import ganjax
from ganjax import data, errors
from ganjax.data import scaling
from ganjax.evaluation import metrics
from ganjax.runs import checkpoint, configs, environment, history, manifest
from ganjax.runs.sampler import Sampler
from ganjax.systems import System


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
  """A trained system; needs no dataset and no network.

  What its system can do with images are methods, too: those of its system's
  abilities, which `dir(run)` lists. Each is `apply` with that name:

      run.score(images)           # D's logits, float32 [n]
      run.encode(images)          # latents, float32 [n, z_dim]
      run.reconstruct(images)     # images, as they are stored
      run.classify(images)        # class logits, float32 [n, num_classes]
      run.log_likelihood(images, draws=50)  # {bound: nats [n]}

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

  def apply(
    self, ability: str, images: np.ndarray, labels=None, **how: Any
  ) -> Any:
    """Returns what an ability of the system makes of stored images.

    Args:
      ability: its name, such as "score"; `run.score(...)` is the same.
      images: uint8 `[n, H, W, C]`, or float32 points `[n, 2]`.
      labels: int `[n]`, for conditional systems.
      **how: further arguments of the ability, see `Sampler.apply`.

    Raises:
      AbsentAbility: the system does not have it; the error names those that it
        has.
      UserError: labels that do not fit, or what the ability refuses.
    """
    return self.sampler.apply(self.state, ability, images, labels, **how)

  def __repr__(self) -> str:
    """Returns one line; the config and the state would be pages."""
    system = self.config.system.name
    return f"Run({str(self.workdir)!r}, step={self.step}, system={system!r})"

  def __getattr__(self, name: str) -> Callable[..., Any]:
    """Returns an ability of the system as a method.

    Raises:
      AbsentAbility: the system does not have it.
    """
    # Python asks for what no run has, such as `__array__`; and `copy` and
    # `pickle` ask before there is a sampler.
    if name.startswith("_") or "sampler" not in vars(self):
      raise AttributeError(name)
    return self.sampler.ability(self.state, name)

  def __dir__(self) -> Iterable[str]:
    """Returns the names of all attributes, and of the system's abilities."""
    return [*super().__dir__(), *self.sampler.abilities(self.state)]

  def protocol(
    self, ema: bool = True, truncation: float = 0.0, statistics: str = ""
  ) -> dict[str, Any]:
    """Returns how `sample` draws with these, for the protocol of a record.

    Labels are "balanced" (all classes in turn), or "none" where the generator
    is unconditional.
    """
    system = self.sampler.system
    averaged = ema and any(self.config.ema.values())
    return {
      "step": self.step,
      "truncation": float(truncation),
      "weights": "ema" if averaged else "live",
      "statistics": statistics or system.statistics,
      "labels": "balanced" if system.conditional else "none",
    }

  def history(self) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl`."""
    return history.read_history(self.workdir)


def load(
  workdir: str | pathlib.Path, step: int | Literal["best"] | None = None
) -> Run:
  """Loads a run from its workdir.

  Args:
    workdir: of a training run.
    step: which checkpoint: the newest if None, or "best" by the config's
      `checkpoint.best`.

  Raises:
    UserError: there is no run, or no such checkpoint, or another version of
      ganjax wrote it.
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
    if found is None:
      found = max(checkpoints.steps())
  return Run(
    config=config,
    workdir=workdir,
    step=int(found),
    state=state,
    sampler=Sampler(system, stored),
  )


def read_config(
  workdir: pathlib.Path, any_version: bool = False
) -> tuple[configs.Config, tuple[int, ...], int]:
  """Returns a run's config, image shape and number of classes.

  Args:
    workdir: of the run.
    any_version: whether the run may be of a version whose checkpoints this one
      does not read. What only compares configs and logs does not need them.

  Raises:
    UserError: `workdir` holds no run, or one of another version.
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
  # First, since another version's config may be refused for another reason,
  # which would not tell the user what to do.
  if not any_version:
    check_version(workdir)
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


def check_version(workdir: pathlib.Path) -> None:
  """Refuses a run whose checkpoints this version cannot read.

  Reads manifests and `environment.json`, and needs nothing else to be intact.

  Args:
    workdir: of the run.

  Raises:
    UserError: another version of ganjax wrote its checkpoints.
  """
  formats = manifest.formats(workdir / "checkpoints")
  if not formats - {manifest.FORMAT}:
    return
  version = environment.version_of(workdir)
  if manifest.FIRST_FORMAT in formats and version in ("", ganjax.__version__):
    version = "0.1.0"  # The one that wrote no formats yet.
  writer = f"ganjax {version}" if version else "a later ganjax"
  raise errors.UserError(
    f"{workdir} was written by {writer}, whose checkpoints this version "
    f"({ganjax.__version__}) does not read: install {writer} to sample from "
    "it, or train it again in another --workdir"
  )


def abstract_state(
  system: System, shape: tuple[int, ...], num_classes: int
) -> Any:
  """Returns the shapes and types of the system's state.

  Args:
    system: whose state it is; it is not initialised.
    shape: of an image.
    num_classes: of the dataset, 0 without labels.
  """
  # Two images: enough for what depends on data, such as a variance.
  images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  labels = jax.ShapeDtypeStruct((2,), jnp.int32) if num_classes else None
  arrays = data.Arrays(images, labels, num_classes)
  return jax.eval_shape(system.init, jax.random.key(0), arrays)
