"""Examples of TFDS: what their features say, and one at a time for a stream."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ganjax import errors
from ganjax.data import sources


class Records:
  """A `sources.Source` of the examples of a TFDS split."""

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    name: str,
    examples: Sequence[dict[str, Any]],
    image_shape: tuple[int, ...],
    num_classes: int,
    size: int,
  ):
    """Keeps `examples`, by number as TFDS decodes them; none is read yet.

    Args:
      name: for messages.
      examples: dicts of "image" and, where there are classes, "label".
      image_shape: `(H, W, C)` after resizing.
      num_classes: of the labels, 0 without.
      size: as in `resize`.
    """
    self.name, self.examples, self.size = name, examples, size
    self.image_shape, self.num_classes = image_shape, num_classes

  def __len__(self) -> int:
    """Returns how many examples there are."""
    return len(self.examples)

  def __getitem__(self, i: int) -> tuple[np.ndarray, int | None]:
    """Reads an example; one that TFDS cannot decode is `Corrupt`."""
    try:
      example = self.examples[i]
      image = resize(example["image"], self.size)
      label = int(example["label"]) if self.num_classes else None
    except Exception as error:
      # As in a folder: the machine's failure is not the record's.
      if isinstance(error, MemoryError) or getattr(error, "errno", None):
        raise
      reason = " ".join(str(error).split())[:300]
      raise sources.Corrupt(f"{self.name}, record {i} ({reason})") from error
    if label is not None and label < 0:
      raise errors.UserError(
        f"tfds: the labels of {self.name} are hidden: it cannot be streamed"
      )
    return image, label


def image_shape(name: str, builder: Any, size: int) -> tuple[int, ...]:
  """Returns `(H, W, C)` of the images as they will be cached."""
  import tensorflow_datasets as tfds

  features = dict(builder.info.features.items())
  image = features.get("image")
  if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8:
    raise errors.UserError(
      f"tfds: {name} is not a dataset of 8-bit images under the name 'image'; "
      f"its examples have {', '.join(sorted(features))}"
    )
  shape: Any = image.shape
  height, width, channels = shape
  if channels is None or (not size and None in (height, width)):
    raise errors.UserError(
      f"tfds: the images of {name} differ in shape, {shape}: "
      + ("set size, e.g. size=64" if channels else "their channels are unknown")
    )
  return (size or height, size or width, channels)


def num_classes(builder: Any) -> int:
  """Returns how many classes the feature "label" has; 0 where it has none."""
  import tensorflow_datasets as tfds

  label = dict(builder.info.features.items()).get("label")
  is_class = isinstance(label, tfds.features.ClassLabel)
  return int(label.num_classes or 0) if is_class else 0


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """Crops `[H, W, C]` to its central square and resizes it to `size`."""
  if size == 0 or image.shape[:2] == (size, size):
    return image
  channels = image.shape[-1]
  picture = Image.fromarray(image[..., 0] if channels == 1 else image)
  picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
  return np.asarray(picture).reshape(size, size, channels)
