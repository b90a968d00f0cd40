"""The classifier of one digit, applied to each channel of Stacked MNIST."""

import hashlib
import pathlib
from typing import Any

import numpy as np
from scipy import special

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import Features, classifier

NUM_DIGITS = 10
CHANNELS = 3


class StackedClassifier:
  """Three channels to `Features`: see `extractors.Extractor`.

  Its features are `[N, 192]`, those of the channels side by side. Its logits
  `[N, 1000]` are log-probabilities, sums of those of the three digits; the
  largest is that of the three likeliest digits.
  """

  def __init__(self, name: str, single: classifier.TrainedClassifier):
    """Takes the name of the dataset and the classifier of one digit."""
    self.name = f"stacked:{name}"
    self.digest = hashlib.sha256(single.digest.encode()).hexdigest()[:16]
    self.accuracy = np.nan
    self.protocol: dict[str, Any] = {"digit_accuracy": single.accuracy}
    self._single = single

  def __call__(self, images: np.ndarray) -> Features:
    """Returns the `Features` of uint8 `[N, H, W, 3]`."""
    parts = [self._single(images[..., i : i + 1]) for i in range(CHANNELS)]
    logs = [special.log_softmax(part.logits, axis=1) for part in parts]
    a, b, c = logs  # `[N, 10]` each.
    # log p(a, b, c) = log p(a) + log p(b) + log p(c), of each triple.
    logits = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]
    features = np.concatenate([part.features for part in parts], axis=1)
    return Features(features, logits.reshape(len(images), -1))


@extractors.register(name="stacked")
def make(
  dataset: str, train: data.Arrays, test: data.Arrays
) -> StackedClassifier:
  """Returns the extractor of a dataset, kept in ganjax's cache.

  Args:
    dataset: its name.
    train: triples `[N, H, W, 3]`, of whose digits the classifier learns.
    test: triples on which the accuracy of all three digits is measured.

  Raises:
    UserError: these are not triples of ten digits with 1000 classes.
  """
  return fit(train, test, cache.root() / "classifiers", dataset)


def fit(
  train: data.Arrays,
  test: data.Arrays,
  cache_dir: pathlib.Path,
  name: str,
) -> StackedClassifier:
  """Does what `make` does, with a classifier kept in `cache_dir`."""
  for split in (train, test):
    shape = np.shape(split.images)
    if split.num_classes != NUM_DIGITS**CHANNELS or shape[3:] != (CHANNELS,):
      raise errors.UserError(
        f"the extractor stacked needs images [N, H, W, 3] of 1000 classes, "
        f"as in stacked_mnist; {name} has {shape} of {split.num_classes}"
      )
  single = classifier.fit(_digits(train), _digits(test), cache_dir, name)
  extractor = StackedClassifier(name, single)
  found = extractor(test.images).logits.argmax(axis=1)
  extractor.accuracy = float(np.mean(found == test.labels))
  return extractor


def _digits(split: data.Arrays) -> data.Arrays:
  """Returns triples `[N, H, W, 3]` as digits `[3 N, H, W, 1]`."""
  images = np.concatenate(
    [split.images[..., i : i + 1] for i in range(CHANNELS)]
  )
  labels = np.concatenate(
    [split.labels // place % NUM_DIGITS for place in (100, 10, 1)]
  )
  return data.Arrays(images, labels.astype(np.int32), NUM_DIGITS)
