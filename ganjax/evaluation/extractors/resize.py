"""Resizing as the metrics of the literature do it: scores depend on it.

Parmar et al. 2022 (arXiv 2104.11222) measure by how much.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import errors

# Axes of images `[N, H, W, C]`.
HEIGHT = 1
WIDTH = 2

# `(images, size) -> images`, see `resize`.
Resize: TypeAlias = Callable[[jax.Array, int], jax.Array]


def resize(images: jax.Array, size: int, mode: str) -> jax.Array:
  """Resizes images to squares; the levels stay in [0, 255].

  Args:
    images: `[N, H, W, C]`, uint8 or float.
    size: the new height and width, in pixels.
    mode: one of `MODES`: "tf1" is the bilinear resize of TensorFlow 1, in
      which the FID was defined (Heusel et al. 2017, torch-fidelity); "clean"
      is Pillow's bicubic one on floats (clean-fid); "torch" is bilinear
      between the centres of pixels (pytorch-fid); "pil" is Pillow's bicubic
      one on uint8, which rounds twice (dgm-eval).

  Returns:
    float32 `[N, size, size, C]`.

  Raises:
    UserError: an unknown mode.
  """
  return find(mode)(jnp.asarray(images, jnp.float32), size)


def find(mode: str) -> Resize:
  """Returns the function of a mode, or raises a `UserError`."""
  if mode not in MODES:
    raise errors.unknown("resize mode", mode, MODES)
  return MODES[mode]


def rgb(images: np.ndarray, extractor: str) -> np.ndarray:
  """Returns images with three channels; a single one is repeated.

  Args:
    images: uint8 `[N, H, W, 1 or 3]`.
    extractor: its name, for the error.

  Raises:
    UserError: anything else.
  """
  if (
    images.ndim != 4
    or images.shape[-1] not in (1, 3)
    or images.dtype != np.uint8
  ):
    raise errors.UserError(
      f"{extractor} sees uint8 images [H, W, 1 or 3], not {images.dtype} "
      f"{list(images.shape[1:])}: choose another extractor"
    )
  return np.broadcast_to(images, (*images.shape[:-1], 3))


def _tf1(images: jax.Array, size: int) -> jax.Array:
  """Takes pixel i from i * old / new, with no half a pixel and no blur."""
  for axis in (WIDTH, HEIGHT):
    old = images.shape[axis]
    # In float32 as in the kernel of TensorFlow: it decides which pixel is left.
    position = np.arange(size, dtype=np.float32) * np.float32(old / size)
    low = position.astype(np.int32)
    high = np.minimum(low + 1, old - 1)
    shape = [1] * images.ndim
    shape[axis] = size
    weight = (position - low).reshape(shape)
    left = jnp.take(images, low, axis)
    right = jnp.take(images, high, axis)
    images = left + (right - left) * weight
  return images


def _half_pixel(images: jax.Array, size: int) -> jax.Array:
  """Interpolates between the centres of pixels, with no blur."""
  shape = (images.shape[0], size, size, images.shape[3])
  return jax.image.resize(images, shape, "bilinear", antialias=False)


def _bicubic(images: jax.Array, size: int, axis: int) -> jax.Array:
  """Resizes one axis of `[N, H, W, C]`."""
  shape = list(images.shape)
  shape[axis] = size
  return jax.image.resize(images, shape, "cubic", antialias=True)


def _clean(images: jax.Array, size: int) -> jax.Array:
  """Resizes as Pillow does floats: bicubic, with a blur."""
  # Clipped at the end alone: Pillow lets floats overshoot in between.
  for axis in (WIDTH, HEIGHT):
    images = _bicubic(images, size, axis)
  return jnp.clip(images, 0, 255)


def _pil(images: jax.Array, size: int) -> jax.Array:
  """Resizes as Pillow does uint8: rounded after both axes."""
  # Rows first, as Pillow did when dgm-eval was published; since version 13 it
  # takes the columns of images taller than wide first and gets other levels.
  for axis in (WIDTH, HEIGHT):
    images = _bicubic(images, size, axis)
    images = jnp.clip(jnp.floor(images + 0.5), 0, 255)
  return images


MODES: dict[str, Resize] = {
  "tf1": _tf1,
  "clean": _clean,
  "torch": _half_pixel,
  "pil": _pil,
}
