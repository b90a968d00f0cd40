"""Scores of samples against a dataset, each with its protocol."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ganjax import data, extractors, metrics

# Scores and pictures draw from different latents.
SEED = 1


class Evaluator:
  """Compares images with a training split.

  A metric sees both in the features or logits of the dataset's classifier, or
  plain samples. The classifier is trained when it is first needed.

  Attributes:
    train: the training split.
    test: the held-out split.
  """

  def __init__(self, name: str, train: data.Arrays, test: data.Arrays):
    """Takes the splits of the dataset `name`."""
    self.train, self.test = train, test
    self._name = name

  @functools.cached_property
  def extractor(self) -> extractors.Extractor:
    """Images to features and class logits; trained, or found cached."""
    make = extractors.find("classifier").make
    return make(self._name, self.train, self.test)

  @functools.cached_property
  def _real(self) -> extractors.Features:
    return self.extractor(self.train.images)

  def prepare(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Trains now what these metrics need, not in the midst of a run.

    Args:
      specs: as those of `compare`.

    Raises:
      UserError: one of them needs labels and the dataset has none, or has a
        hyper-parameter out of range.
    """
    for name, spec in specs.items():
      self._make(name, spec)
      if metrics.input_of(name) != "samples":
        _ = self._real

  def compare(
    self, specs: Mapping[str, Mapping[str, Any]], images: np.ndarray
  ) -> dict[str, metrics.Record]:
    """Returns each metric of `images` against the training split.

    Args:
      specs: metric -> its hyper-parameters; `every` and `num_samples` are
        not for it.
      images: as they are stored.
    """
    fake, records = None, {}
    for name, spec in specs.items():
      metric, on = self._make(name, spec), metrics.input_of(name)
      if on == "samples":
        record = metric(_flat(self.train.images), _flat(images))
        record.protocol.update(extractor="none")
      else:
        fake = fake or self.extractor(images)
        record = metric(getattr(self._real, on), getattr(fake, on))
        record.protocol.update(
          extractor=self.extractor.name,
          extractor_digest=self.extractor.digest,
          extractor_accuracy=self.extractor.accuracy,
        )
      record.protocol.update(against="train")
      records[name] = record
    return records

  def _make(self, name: str, spec: Mapping[str, Any]) -> metrics.Metric:
    hyper = {k: v for k, v in spec.items() if k not in _NOT_HYPER}
    if "labels" in inspect.signature(metrics.find(name)).parameters:
      hyper["labels"] = self.train.labels
    return metrics.get(name, **hyper)

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


def _flat(images: np.ndarray) -> np.ndarray:
  """Returns images or points as float64 `[N, d]`."""
  return np.asarray(images).reshape(len(images), -1).astype(np.float64)


def noise(like: np.ndarray) -> np.ndarray:
  """Returns uniform noise of the shape and type of `like`, always the same."""
  rng = np.random.RandomState(0)
  if like.dtype == np.uint8:
    return rng.randint(0, 256, like.shape).astype(np.uint8)
  return rng.uniform(-1, 1, like.shape).astype(like.dtype)
