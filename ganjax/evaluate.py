"""Scores of samples against a dataset, each with its protocol."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ganjax import data, metrics
from ganjax.data import cache
from ganjax.metrics import classifier

# Scores and pictures draw from different latents.
SEED = 1


class Evaluator:
  """Compares images with a training split, in its classifier's features.

  Attributes:
    train: the training split.
    test: the held-out split.
    extractor: images to features and class logits.
  """

  def __init__(self, name: str, train: data.Arrays, test: data.Arrays):
    """Trains the classifier of the dataset `name`, or finds it cached."""
    self.train, self.test = train, test
    folder = cache.root() / "classifiers"
    self.extractor = classifier.fit(train, test, folder, name)
    self._real = self.extractor(train.images)

  def compare(
    self, specs: Mapping[str, Mapping[str, Any]], images: np.ndarray
  ) -> dict[str, metrics.Record]:
    """Returns each metric of `images` against the training split.

    Args:
      specs: metric -> its hyper-parameters; `every` and `num_samples` are
        not for it.
      images: as they are stored.
    """
    fake = self.extractor(images)
    records = {}
    for name, spec in specs.items():
      hyper = {k: v for k, v in spec.items() if k not in _NOT_HYPER}
      on = metrics.input_of(name)
      metric = metrics.get(name, **hyper)
      records[name] = metric(getattr(self._real, on), getattr(fake, on))
      records[name].protocol.update(
        extractor=self.extractor.name,
        extractor_digest=self.extractor.digest,
        extractor_accuracy=self.extractor.accuracy,
        against="train",
      )
    return records

  def score(
    self, specs: Mapping[str, Mapping[str, Any]], draw: Callable
  ) -> dict[str, metrics.Record]:
    """Returns each metric of fresh samples.

    Args:
      specs: as those of a config, with `num_samples`; where that is 0 as
        many as the held-out split has, since a Fréchet distance depends on
        it and the held-out one is what to compare with.
      draw: `(n, seed=...) -> images`.
    """
    records = {}
    for num in {spec["num_samples"] for spec in specs.values()}:
      images = draw(num or len(self.test.images), seed=SEED)
      same = {k: v for k, v in specs.items() if v["num_samples"] == num}
      records |= self.compare(same, images)
    return records


_NOT_HYPER = ("every", "num_samples")


def noise(like: np.ndarray) -> np.ndarray:
  """Returns uniform noise of the shape and type of `like`, always the same."""
  rng = np.random.RandomState(0)
  if like.dtype == np.uint8:
    return rng.randint(0, 256, like.shape).astype(np.uint8)
  return rng.uniform(-1, 1, like.shape).astype(like.dtype)
