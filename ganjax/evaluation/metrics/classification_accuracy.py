"""The accuracy on real images of a classifier that learnt from fakes."""

import numpy as np
from numpy.typing import ArrayLike

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import metrics
from ganjax.evaluation.extractors import classifier


@metrics.register(
  on="images",
  better={"classification_accuracy": "higher"},
  formats={
    "classification_accuracy": ".3f",
    "classification_accuracy_real": ".3f",
  },
)
def classification_accuracy(
  labels: ArrayLike | None,
  fake_labels: ArrayLike | None,
  held_out: np.ndarray | None,
  held_out_labels: ArrayLike | None,
) -> metrics.Metric:
  """Returns the classification accuracy score of a conditional generator.

  A classifier learns the class of fakes and is tested on real images that it
  has not seen: Ravuri and Vinyals 2019, section 3. Theirs is a ResNet-50, this
  one the small network of `extractors.classifier`, so it stands beside
  the accuracy of the same network after it learnt as many reals in the same
  way: with fewer fakes than reals, from a random part of the reals.

  Args:
    labels: int `[N]` in [0, K), the class of each real.
    fake_labels: int `[M]`, the class that each fake was made for.
    held_out: images `[L, H, W, C]` of the test split.
    held_out_labels: int `[L]`, their classes.

  Returns:
    `metric(real [N, H, W, C], fake [M, H, W, C])` on images, uint8 or floats
    in [0, 1], with the values `classification_accuracy` and, after learning
    from reals, `classification_accuracy_real`, both in [0, 1]. Its flag:
    "missing classes", some have no fakes.

  Raises:
    UserError: labels or held-out images are missing; when called without
      labels of the fakes, with other than N reals and M fakes, with non-finite
      images, or with no images.
  """
  if labels is None or held_out is None or held_out_labels is None:
    raise errors.UserError(
      "classification_accuracy: it needs a dataset with labels and a test split"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    name = "classification_accuracy"
    real, fake = metrics.check_images(name, real, fake)
    _, test = metrics.check_images(name, real, held_out)
    real_y, fake_y, test_y = metrics.check_labels(
      name,
      real=(labels, real),
      fake=(fake_labels, fake),
      held_out=(held_out_labels, test),
    )
    # The classes are those of the data: a fake of another cannot be right.
    num_classes = int(max(real_y.max(), test_y.max())) + 1
    if fake_y.min() < 0 or fake_y.max() >= num_classes:
      raise errors.UserError(
        f"{name}: the samples have labels from {fake_y.min()} to "
        f"{fake_y.max()}, the dataset has {num_classes} classes"
      )

    def split(images: np.ndarray, labels: np.ndarray) -> data.Arrays:
      labels = np.asarray(labels, np.int32)
      return data.Arrays(_as_bytes(images), labels, num_classes)

    test = split(test, test_y)
    chosen = _some(len(real), len(fake))
    reals = split(real[chosen], real_y[chosen])
    # The reals are the same at every evaluation: theirs is kept on disk.
    folder = cache.root() / "classifiers"
    of_reals = classifier.fit(reals, test, folder, "some_reals")
    of_fakes = classifier.trained(split(fake, fake_y), "the fakes")
    logits = np.asarray(of_fakes(test.images).logits)
    return metrics.Record(
      {
        name: float(np.mean(logits.argmax(axis=1) == test.labels)),
        f"{name}_real": float(of_reals.accuracy),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_real_learnt": len(chosen),
        "num_held_out": len(held_out),
        "classes": num_classes,
        "classifier": f"ganjax recipe {classifier.RECIPE}",
      },
      () if np.isin(real_y, fake_y).all() else ("missing classes",),
    )

  return metric


def _some(num_real: int, num: int) -> np.ndarray:
  """Returns at most `num` indices of reals, in order, always the same ones."""
  order = np.random.RandomState(0).permutation(num_real)
  return np.sort(order[:num])


def _as_bytes(images: np.ndarray) -> np.ndarray:
  """Returns uint8 images as they are, and floats in [0, 1] as uint8."""
  if images.dtype == np.uint8:
    return images
  return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
