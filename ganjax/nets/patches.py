"""Convolutions as matrix products with patches: see `conv.Forms`.

A kernel of `size` places is `size / stride` blocks of `stride` places. Blocks
of pixels are channels (space to depth), so patches are a few large pieces: the
places `[a, i, b, j]` of a kernel stand in the order `[a, b, i, j]`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Shape(NamedTuple):
  """A convolution with one output for each `stride` x `stride` pixels.

  Attributes:
    size: of the kernel, a multiple of the stride; size - stride = 2 padding.
    stride: in both directions.
    padding: zeros on each side.
  """

  size: int
  stride: int
  padding: int

  @property
  def blocks(self) -> int:
    """The kernel's blocks of pixels along one side."""
    return self.size // self.stride

  @property
  def places(self) -> list[tuple[int, int]]:
    """Where the kernel's blocks stand, in the order of a patch."""
    sides = range(self.blocks)
    return [(a, b) for a in sides for b in sides]


def f(shape: Shape, y: jax.Array, k: jax.Array) -> jax.Array:
  """Convolves the image `y` with the kernel `k`."""
  return _patches(shape, y) @ _matrix(shape, k)


def t(shape: Shape, x: jax.Array, k: jax.Array) -> jax.Array:
  """The adjoint of `f` to the image."""
  return _overlap_add(shape, x @ _matrix(shape, k).T)


def w(shape: Shape, y: jax.Array, x: jax.Array) -> jax.Array:
  """The adjoint of `f` to the kernel."""
  matrix = jnp.einsum("nhwp,nhwd->pd", _patches(shape, y), x)
  s = shape.stride
  m = shape.blocks
  # From [a, b, i, j], the order of a patch, to the kernel's [a, i, b, j].
  k = matrix.reshape(m, m, s, s, y.shape[-1], x.shape[-1])
  k = k.transpose(0, 2, 1, 3, 4, 5)
  return k.reshape(shape.size, shape.size, y.shape[-1], x.shape[-1])


def _matrix(shape: Shape, k: jax.Array) -> jax.Array:
  """Returns the kernel as a matrix `[patch, D]`."""
  s = shape.stride
  m = shape.blocks
  k = k.reshape(m, s, m, s, *k.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
  return k.reshape(-1, k.shape[-1])


def _patches(shape: Shape, y: jax.Array) -> jax.Array:
  """Returns `[N, H, W, patch]`, what each output sees of `y`."""
  s = shape.stride
  p = shape.padding
  n, _, _, c = y.shape
  y = jnp.pad(y, ((0, 0), (p, p), (p, p), (0, 0)))
  # Space to depth: s x s pixels become one place with s * s * C channels.
  h = y.shape[1] // s
  w = y.shape[2] // s
  y = y.reshape(n, h, s, w, s, c).swapaxes(2, 3).reshape(n, h, w, s * s * c)
  # A kernel of m x m such places fits in so many positions.
  h -= shape.blocks - 1
  w -= shape.blocks - 1
  pieces = [y[:, a : a + h, b : b + w] for a, b in shape.places]
  return jnp.concatenate(pieces, -1)


def _overlap_add(shape: Shape, patches: jax.Array) -> jax.Array:
  """The adjoint of `_patches`."""
  s = shape.stride
  m = shape.blocks
  p = shape.padding
  n, h, w, _ = patches.shape
  z = patches.reshape(n, h, w, m * m, -1)
  first, *rest = (
    jnp.pad(
      z[:, :, :, m * a + b],
      ((0, 0), (a, m - 1 - a), (b, m - 1 - b), (0, 0)),
    )
    for a, b in shape.places
  )
  y = sum(rest, start=first)
  h += m - 1
  w += m - 1
  y = y.reshape(n, h, w, s, s, -1).swapaxes(2, 3).reshape(n, h * s, w * s, -1)
  return y[:, p : h * s - p, p : w * s - p]
