"""What the pictures of a run are made of: samples, data, and their features."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import extractors
from ganjax.evaluation.evaluator import Evaluator
from ganjax.runs import plots
from ganjax.runs.run import Run

# One colour and one name for each kind of images in every picture.
COLOURS = {"train": plots.BLUE, "test": plots.GREEN, "fake": plots.ORANGE}
NAMES = {"train": "training", "test": "held-out", "fake": "samples"}
MIN_NUM = 20  # samples: fewer fill no picture
CHUNK = 1024  # images whose features are computed between two marks of progress


class Batch(NamedTuple):
  """Some images of one kind.

  Attributes:
    images: as they are stored, `[n, ...]`.
    labels: int `[n]`, or None.
  """

  images: np.ndarray
  labels: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Subject:
  """A run, and what its samples are compared with.

  Attributes:
    run: the run whose samples are drawn.
    evaluator: the evaluator of the run's dataset.
    num: how many samples are drawn, and at most how many images of each split
      are compared with them.
    seed: the seed of the samples, and of the choice of images.
  """

  run: Run
  evaluator: Evaluator
  num: int = 2000
  seed: int = 0

  @property
  def train(self) -> data.Arrays:
    """The whole training split."""
    return self.evaluator.train

  @property
  def is_points(self) -> bool:
    """Whether the data are points in the plane."""
    return self.train.images.ndim == 2

  def need_images(self) -> None:
    """Raises a `UserError` if the data are points."""
    if self.is_points:
      raise errors.UserError("needs images, and this run makes points")

  def sample(self, n: int, **how: Any) -> Batch:
    """Draws samples, with all classes in turn where there are any.

    Raises:
      UserError: points that are not finite, of a run that diverged.
    """
    labels = self.labels(n)
    images = self.run.sample(n, labels, seed=self.seed, **how)
    num_bad = n - np.isfinite(images).reshape(n, -1).all(axis=1).sum()
    if num_bad:
      raise errors.UserError(
        f"{num_bad} of {n} samples are not finite: try --step with an earlier "
        "one"
      )
    return Batch(images, labels)

  def labels(self, n: int) -> np.ndarray | None:
    """Returns all classes in turn `[n]`; None if samples have no class."""
    system = self.run.sampler.system
    return np.arange(n) % system.num_classes if system.conditional else None

  @functools.cached_property
  def batches(self) -> dict[str, Batch]:
    """Kind -> images; those of a split are chosen at random, in its order."""
    rng = np.random.RandomState(self.seed)
    batches = {}
    for kind in ("train", "test"):
      arrays = getattr(self.evaluator, kind)
      order = rng.permutation(len(arrays.images))
      chosen = np.sort(order[: self.num])
      labels = None if arrays.labels is None else arrays.labels[chosen]
      batches[kind] = Batch(np.asarray(arrays.images[chosen]), labels)
    return {**batches, "fake": self.sample(self.num)}

  @functools.cached_property
  def why_no_features(self) -> str:
    """Why there is no extractor; "" if there is one."""
    try:
      _ = self.evaluator.extractor
    except errors.UserError as error:
      return str(error)
    return ""

  def extract(self, images: np.ndarray) -> extractors.Features:
    """Returns the extractor's `Features` of images; shows its progress.

    Raises:
      UserError: there is no extractor for this dataset.
    """
    extract = self.evaluator.extractor
    starts = range(0, len(images), CHUNK)
    text = f"features of {len(images):,} images"
    parts = [
      extract(np.asarray(images[i : i + CHUNK]))
      for i in cache.track(starts, len(starts), text)
    ]
    # An extractor may lack a field, such as logits; then all parts do.
    columns = zip(*parts, strict=True)
    whole = [None if c[0] is None else np.concatenate(c) for c in columns]
    return type(parts[0])(*whole)

  @functools.cached_property
  def seen(self) -> dict[str, extractors.Features]:
    """Kind -> the extractor's `Features` of its batch."""
    return {
      kind: self.extract(batch.images) for kind, batch in self.batches.items()
    }

  @property
  def space(self) -> str:
    """The space in which samples are compared: plane, features or pixels."""
    if self.is_points:
      return "plane"
    return "pixels" if self.why_no_features else "features"

  def coordinates(self, images: np.ndarray) -> np.ndarray:
    """Returns images as float64 `[n, d]` in `space`."""
    if self.space == "features":
      return np.asarray(self.extract(images).features, np.float64)
    return flat(images)

  @functools.cached_property
  def placed(self) -> dict[str, np.ndarray]:
    """Kind -> the coordinates of its batch."""
    if self.space == "features":
      # Once for all: features take most of the time of a picture.
      return {
        kind: np.asarray(features.features, np.float64)
        for kind, features in self.seen.items()
      }
    return {k: flat(batch.images) for k, batch in self.batches.items()}

  def protocol(self) -> dict[str, Any]:
    """Returns what has to agree before numbers may be compared."""
    extractor = {"name": "none"}
    if not self.is_points and not self.why_no_features:
      found = self.evaluator.extractor
      extractor = {"name": found.name, "digest": found.digest}
    return {
      **self.run.protocol(),
      "seed": self.seed,
      "num": self.num,
      "extractor": extractor,
    }


def flat(images: np.ndarray) -> np.ndarray:
  """Returns points as they are, or pixels in [0, 1], float64 `[n, d]`."""
  scale = 255.0 if images.dtype == np.uint8 else 1.0
  return np.asarray(images, np.float64).reshape(len(images), -1) / scale
