"""Extractors: what metrics see of images.

Each file `extractors/<name>.py` registers a `make` under its name:

    @extractors.register(name="pixels")
    def make(dataset, train, test, scale: float = 1.0) -> Extractor:
      ...

It is given the dataset's name and two of its splits, and a config sets the
other parameters. Such a function may stand in any file. There it is named
`module:attribute`, or "pixels" once its module is imported. The extractor's
digest and protocol belong to every score made with it.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from ganjax import registry
from ganjax.data import cache

EXTRACTORS = registry.Registry(
  "extractor", __name__, helpers=("resize", "weights")
)
# So many images are seen at a time. The last ones are padded to it: with one
# shape there is one compilation.
CHUNK = 256


class Features(NamedTuple):
  """What an extractor makes of N images: arrays of NumPy or of JAX.

  Attributes:
    features: float32 `[N, d]`.
    logits: float32 `[N, num_classes]`, or None if it knows no classes.
  """

  features: Any
  logits: Any = None


class Extractor(Protocol):
  """Maps uint8 images `[N, H, W, C]` or float32 points `[N, 2]` to `Features`.

  The features of an image depend neither on the other images nor on how many
  there are.

  Attributes:
    name: e.g. "classifier:digits".
    digest: the start of the SHA-256 of its parameters.
    accuracy: of its logits on the test split, a fraction; NaN if unknown.
    protocol: what else has to agree before scores are compared: its resize
      mode, say.
  """

  name: str
  digest: str
  accuracy: float
  protocol: dict[str, Any]

  def __call__(self, images: np.ndarray) -> Features:
    """Returns the features and the logits of images."""
    ...


Make: TypeAlias = Callable[..., Extractor]

register = EXTRACTORS.register


def find(name: str) -> Make:
  """Returns what makes the extractor `name`, or that of `module:attribute`.

  Raises:
    UserError: there is no such extractor.
  """
  return EXTRACTORS.find(name)


def names() -> list[str]:
  """Returns the names of the extractors that there are."""
  return EXTRACTORS.names()


def in_chunks(
  apply: Callable[[np.ndarray], Features],
  images: np.ndarray,
  chunk: int = CHUNK,
) -> Features:
  """Returns `apply` of all images, computed `chunk` at a time.

  Args:
    apply: images `[chunk, ...]` -> `Features`, compiled.
    images: `[N, ...]`. The last chunk is padded, and the features of the
      padding are dropped.
    chunk: how many images at a time.
  """
  features = []
  logits = []
  starts = range(0, max(len(images), 1), chunk)  # One, too, of no images.
  with exact():
    for start in cache.track(starts, len(starts), "extracting features"):
      part = np.asarray(images[start : start + chunk])
      num = len(part)
      pad = [(0, chunk - num)] + [(0, 0)] * (part.ndim - 1)
      out = apply(np.pad(part, pad))
      features.append(np.asarray(out.features)[:num])
      if out.logits is not None:
        logits.append(np.asarray(out.logits)[:num])
  return Features(
    np.concatenate(features), np.concatenate(logits) if logits else None
  )


def exact() -> contextlib.AbstractContextManager:
  """Keeps products in float32; a TPU would multiply in bfloat16."""
  return jax.default_matmul_precision("highest")
