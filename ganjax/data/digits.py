"""The 1,797 real handwritten digits of scikit-learn: no download."""

import numpy as np
from PIL import Image

from ganjax import data, errors

_SPLITS = ("train", "test")


@data.register(name="digits")
def load(split: str = "train", size: int = 16) -> data.Arrays:
  """Loads 8x8 digits (UCI, 1998), enlarged to `size` with Lanczos.

  Args:
    split: "train" (1,437 digits) or "test" (360). Every class has a fifth of
      its digits in the test split; which ones is fixed for ever.
    size: height and width in pixels, at least 8.

  Returns:
    uint8 images `[N, size, size, 1]` in [0, 255] and int32 labels `[N]` in
    [0, 10).

  Raises:
    UserError: there is no such split, or `size` is below 8.
  """
  from sklearn import datasets

  if split not in _SPLITS:
    raise errors.unknown("split", split, _SPLITS)
  if size < 8:
    raise errors.UserError(f"digits: size is {size}, it must be at least 8")
  images, labels = datasets.load_digits(return_X_y=True)
  indices = _indices(split, labels)
  labels = labels[indices].astype(np.int32)
  # Their 17 levels, 0 to 16, are spread over those of uint8.
  images = np.rint(images[indices] * 255 / 16).astype(np.uint8)
  images = images.reshape(-1, 8, 8)
  if size != 8:
    images = np.stack([_enlarge(image, size) for image in images])
  return data.Arrays(images[..., None], labels, num_classes=10)


def _indices(split: str, labels: np.ndarray) -> np.ndarray:
  """Returns where in `labels` `[N]` the examples of `split` stand."""
  # Every fifth of a shuffled list that is sorted by class is the test split.
  # RandomState's stream is frozen (NEP 19), so the split is too.
  order = np.random.RandomState(0).permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]
  is_test = np.arange(len(labels)) % 5 == 0
  return np.sort(order[is_test if split == "test" else ~is_test])


def _enlarge(image: np.ndarray, size: int) -> np.ndarray:
  """Returns uint8 `[8, 8]` as uint8 `[size, size]`."""
  method = Image.Resampling.LANCZOS
  return np.asarray(Image.fromarray(image).resize((size, size), method))
