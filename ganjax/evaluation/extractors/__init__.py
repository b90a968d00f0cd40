"""Extractors: what metrics see of images.

Each file `extractors/<name>.py` has `make(dataset, train, test, **hyper) ->
Extractor`, whose digest and ways of looking belong to every score made with it.
"""

import contextlib
import sys
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from ganjax import registry
from ganjax.data import cache

HELPERS = ("resize", "weights")
CHUNK = 256  # Every extraction is padded to it: one shape, one compilation.


class Features(NamedTuple):
  """What an extractor makes of N images.

  Attributes:
    features: float32 `[N, d]`.
    logits: float32 `[N, num_classes]`, or None if it knows no classes.
  """

  features: Any
  logits: Any = None


class Extractor(Protocol):
  """Images to `Features`: uint8 `[N, H, W, C]`, or float32 points `[N, 2]`.

  An image's features do not depend on the others, nor on their number.

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
    """Returns what it makes of images."""
    ...


def find(name: str):
  """Returns the module of the extractor `name`."""
  return registry.find_module(sys.modules[__name__], name, "extractor", HELPERS)


def names() -> list[str]:
  """Returns the names of the extractors that there are."""
  return registry.module_names(sys.modules[__name__], HELPERS)


def in_chunks(apply, images: np.ndarray, chunk: int = CHUNK) -> Features:
  """Returns `apply` of all images, computed `chunk` at a time.

  Args:
    apply: images `[chunk, ...]` -> `Features`, compiled.
    images: `[N, ...]`; the last ones are padded, and the padding dropped.
    chunk: how many at a time.
  """
  chunks, starts = [], range(0, max(len(images), 1), chunk)
  with exact():
    for start in cache.track(starts, len(starts), "extracting features"):
      part = np.asarray(images[start : start + chunk])
      pad = [(0, chunk - len(part))] + [(0, 0)] * (part.ndim - 1)
      out, real = apply(np.pad(part, pad)), slice(len(part))
      chunks.append([None if x is None else np.asarray(x)[real] for x in out])
  joined = zip(*chunks, strict=True)
  return Features(
    *(None if x[0] is None else np.concatenate(x) for x in joined)
  )


def exact() -> contextlib.AbstractContextManager:
  """Keeps products in float32; a TPU would multiply in bfloat16."""
  return jax.default_matmul_precision("highest")
