"""Stacked MNIST: three digits in the channels of an image, 1000 classes.

A test for dropped modes by Metz et al. 2017 (Unrolled GAN), section 3.3.1.
"""

import numpy as np

from ganjax import data, errors
from ganjax.data import cache, digits, tfds

_SPLITS = ("train", "test")
_BLOCK = 4096  # Images at a time.


@data.register(name="stacked_mnist")
def load(
  split: str = "train",
  source: str = "mnist",
  num_examples: int = 128_000,
  num_test: int = 25_600,
  size: int = 0,
  pad: int = 0,
  data_dir: str = "",
) -> data.Arrays:
  """Loads random triples of digits, always the same ones.

  Each digit of a triple is any digit of that split of the source with equal
  probability, as in the papers, of which most train on 128,000 triples (Lin et
  al. 2018) and judge 25,600 samples (Metz et al. 2017; Srivastava et al. 2017).

  Args:
    split: "train" or "test", made of that split of the source.
    source: "mnist", which the dataset tfds loads, or the "digits" of
      scikit-learn, which need no download.
    num_examples: how many triples to train on.
    num_test: how many triples in the test split.
    size: to which height and width digits are resized with Lanczos; 0 leaves
      them as they are, 28 pixels of MNIST and 8 of digits.
    pad: how many black pixels are then added on every side: 2 makes 32 of 28.
    data_dir: where TFDS keeps MNIST; "" as in the dataset tfds.

  Returns:
    uint8 images `[N, H, W, 3]` in [0, 255], memory-mapped, and int32 labels
    `[N]` in [0, 1000): 100 a + 10 b + c for the digits a, b, c.

  Raises:
    UserError: no such split or source, a number out of range, or MNIST is not
      there and cannot be downloaded.
  """
  if split not in _SPLITS:
    raise errors.unknown("split", split, _SPLITS)
  num = num_examples if split == "train" else num_test
  for name, value, least in (
    ("num_examples", num_examples, 1),
    ("num_test", num_test, 1),
    ("size", size, 0),
    ("pad", pad, 0),
  ):
    if value < least:
      raise errors.UserError(
        f"stacked_mnist: {name} is {value}, it must be at least {least}"
      )
  singles = _singles(split, source, size, data_dir)
  key: cache.Key = {
    "dataset": "stacked_mnist",
    "source": source,
    "split": split,
    "num": num,
    "size": size,
    "pad": pad,
    "digits": cache.digest(singles),
  }
  side = singles.images.shape[1] + 2 * pad

  def make(allocate: cache.Allocate) -> data.Arrays:
    # RandomState's stream is frozen (NEP 19), so the triples are too.
    rng = np.random.RandomState(_SPLITS.index(split))
    triples = rng.randint(len(singles.images), size=(num, 3))
    images = allocate((num, side, side, 3))
    images[:] = 0
    inner = images[:, pad : side - pad, pad : side - pad]
    for i in range(0, num, _BLOCK):
      stacks = singles.images[triples[i : i + _BLOCK], ..., 0]
      inner[i : i + _BLOCK] = np.moveaxis(stacks, 1, -1)
    # The class of a triple is the number that its digits are read as.
    labels = np.asarray(singles.labels)[triples] @ [100, 10, 1]
    return data.Arrays(images, labels.astype(np.int32), 1000)

  return cache.cached(key, make)


def _singles(split: str, source: str, size: int, data_dir: str) -> data.Arrays:
  """Returns the single digits of a source, `[N, H, W, 1]`."""
  if source == "digits":
    return digits.load(split, size=size or 8)
  if source == "mnist":
    return tfds.load(split, builder="mnist", size=size, data_dir=data_dir)
  raise errors.unknown("source", source, ("digits", "mnist"))
