"""What metrics check of their samples: shapes, numbers, finite values.

Every problem is a `UserError` of one line that names the metric.
"""

import numpy as np
from numpy.typing import ArrayLike

from ganjax import errors


def check(
  metric: str, real: ArrayLike, fake: ArrayLike, min_samples: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both samples as float64 `[N, d]` and `[M, d]`.

  Args:
    metric: its name, for the errors.
    real: array `[N, d]`.
    fake: array `[M, d]`.
    min_samples: how many samples each of them needs.

  Raises:
    UserError: shapes that do not fit, too few samples, or samples that are
      not finite, as those of a generator that diverged.
  """
  arrays = []
  for kind, array in (("real", real), ("fake", fake)):
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or array.shape[1:] != np.shape(real)[1:]:
      raise errors.UserError(
        f"{metric}: real {np.shape(real)} and fake {np.shape(fake)} must be "
        "[N, d] and [M, d]"
      )
    if len(array) < min_samples:
      raise errors.UserError(
        f"{metric}: {len(array)} {kind} samples are too few, it needs at "
        f"least {min_samples}"
      )
    bad = len(array) - np.isfinite(array).all(axis=1).sum()
    if bad:
      raise errors.UserError(
        f"{metric}: {bad} of {len(array)} {kind} samples are not finite"
      )
    arrays.append(array)
  return arrays[0], arrays[1]


def check_finite(metric: str, what: str, array: np.ndarray) -> None:
  """Raises a `UserError` unless each row of `array [N, ...]` is finite."""
  finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
  if not finite.all():
    raise errors.UserError(
      f"{metric}: {np.sum(~finite)} of {len(array)} {what} are not finite"
    )


def check_labels(
  metric: str, **given: tuple[ArrayLike | None, np.ndarray]
) -> list[np.ndarray]:
  """Returns the labels of some samples, int `[N]`, in the order given.

  This is for a metric that is called with samples. What a dataset lacks is
  known before, and the factory of the metric says it; whether fakes have labels
  is known only when they are drawn.

  Args:
    metric: its name, for the errors.
    **given: "real", "fake" or "held_out" -> labels and their samples.

  Raises:
    UserError: fakes have none, or there is not one for each sample.
  """
  arrays = []
  for kind, (labels, samples) in given.items():
    if labels is None:
      raise errors.UserError(
        f"{metric}: the samples have no labels, it needs those of a "
        "conditional run"
      )
    array = np.asarray(labels)
    if array.shape != (len(samples),):
      raise errors.UserError(
        f"{metric}: labels {array.shape} must be one for each of the "
        f"{len(samples)} {kind.replace('_', '-')} samples"
      )
    arrays.append(array)
  return arrays


def check_images(
  metric: str, real: ArrayLike, fake: ArrayLike, min_samples: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Returns two sets of images `[N, H, W, C]`, `[M, H, W, C]`, or raises.

  Args:
    metric: its name, for the errors.
    real: uint8, or floats in [0, 1].
    fake: of the type of `real`, each image of the same shape.
    min_samples: how many images each of them needs.

  Raises:
    UserError: no images, shapes or types that do not fit, too few of them, or
      images that are not finite.
  """
  real = np.asarray(real)
  fake = np.asarray(fake)
  if real.ndim != 4 or fake.shape[1:] != real.shape[1:]:
    raise errors.UserError(
      f"{metric}: real {real.shape} and fake {fake.shape} must be images "
      "[N, H, W, C] and [M, H, W, C]"
    )
  if real.dtype != fake.dtype:
    raise errors.UserError(
      f"{metric}: real images are {real.dtype}, fake ones {fake.dtype}"
    )
  for kind, images in (("real", real), ("fake", fake)):
    if len(images) < min_samples:
      raise errors.UserError(
        f"{metric}: {len(images)} {kind} images are too few, it needs at "
        f"least {min_samples}"
      )
    if images.dtype != np.uint8:
      bad = len(images) - np.isfinite(images).all(axis=(1, 2, 3)).sum()
      if bad:
        raise errors.UserError(
          f"{metric}: {bad} of {len(images)} {kind} images are not finite"
        )
  return real, fake
