"""Convolutions in the forms that are fast, with the parameters of the plain.

A convolution F of an image y with a kernel k is linear in both. With its two
adjoints, T to the image and W to the kernel,

    <F(y, k), x> = <y, T(x, k)> = <k, W(y, x)>,

so the derivatives of each of the three are the two others, to any order: a
fast form of each is all that training needs, penalties on gradients included.
A convolution that halves the resolution is an F of stride 2, one that doubles
it a T, upsampling or pooling beside it included.

What is fast depends on the platform, and is decided here alone. XLA's CPU
backend computes T of stride 2 over inserted zeros, W of large images from
patches that leave the cache, and wastes its vectors on three channels.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from ganjax import parallel
from ganjax.nets import patches
from ganjax.nets.patches import Shape

DIMS = ("NHWC", "HWIO", "NHWC")

# Numbers of an image part, for each stride, with which W stays in the cache of
# a CPU's core: measured, see results/speed.md.
CACHED = 2**18
# So few channels are better multiplied with all places of the kernel at once.
FEW = 4

_form = "fast"


@contextlib.contextmanager
def plain():
  """Whatever is traced inside takes the form in which papers write it."""
  global _form
  before, _form = _form, "plain"
  try:
    yield
  finally:
    _form = before


def conv(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  padding: int = 0,
  groups: int = 1,
) -> jax.Array:
  """Convolves an image with a kernel, as networks understand it.

  Args:
    x: `[N, H, W, in]`.
    kernel: `[size, size, in / groups, out]`.
    stride: in both directions.
    padding: zeros on each side.
    groups: of channels that do not mix.

  Returns:
    `[N, H', W', out]`, H' = floor((H + 2 padding - size) / stride) + 1.
  """
  size = len(kernel)
  shape = Shape(size, stride, padding)
  if shape == (1, 1, 0) and groups == 1 and _form == "fast":
    return jnp.einsum("nhwc,cd->nhwd", x, kernel[0, 0])
  whole = x.shape[1] % stride == x.shape[2] % stride == size % stride == 0
  if groups == 1 and whole and size - stride == 2 * padding:
    return _family(shape)[0](x, kernel)
  return _plain(shape, x, kernel, groups)


def conv_transpose_4x4(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Doubles the resolution: a 4x4 transposed convolution of stride 2.

  Equals `lax.conv_transpose(x, kernel, (2, 2), "SAME")`, values and
  gradients. Reverse mode only, to any order.

  Args:
    x: `[N, H, W, in]`.
    kernel: `[4, 4, in, out]`.

  Returns:
    `[N, 2H, 2W, out]`.
  """
  if _form == "plain":
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=DIMS)
  return _family(Shape(4, 2, 1))[1](x, _turn(kernel))


def upsample_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`conv(upsample(x), kernel)`, keeping the resolution of `upsample(x)`.

  Each output pixel sees 4 different pixels through a 3x3 kernel, not 9.

  Args:
    x: `[N, H, W, in]`.
    kernel: `[size, size, in, out]`, of odd size.

  Returns:
    `[N, 2H, 2W, out]`.
  """
  half = len(kernel) // 2
  if _form == "plain":
    return conv(upsample(x), kernel, padding=half)
  if half == 0:
    return upsample(conv(x, kernel))
  shape = Shape(len(kernel) + 1, 2, half)
  return _family(shape)[1](x, _sum_of_shifts(_turn(kernel)))


def conv_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """`pool(conv(x, kernel))`, the convolution keeping the resolution.

  Args:
    x: `[N, 2H, 2W, in]`.
    kernel: `[size, size, in, out]`, of odd size.

  Returns:
    `[N, H, W, out]`.
  """
  half = len(kernel) // 2
  if _form == "plain":
    return pool(conv(x, kernel, padding=half))
  if half == 0:
    return conv(pool(x), kernel)
  return conv(x, _sum_of_shifts(kernel) / 4, 2, half)


def upsample(x: jax.Array) -> jax.Array:
  """Doubles the resolution of `[N, H, W, C]`: nearest neighbours."""
  n, h, w, c = x.shape
  x = jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c))
  return x.reshape(n, 2 * h, 2 * w, c)


def pool(x: jax.Array) -> jax.Array:
  """Halves the resolution of `[N, H, W, C]`: means of 2x2 pixels."""
  n, h, w, c = x.shape
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


# Of two arrays, each of which it is linear in.
Form: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


class Forms(NamedTuple):
  """F `(y, k) -> x`, T `(x, k) -> y`, W `(y, x) -> k` of one convolution.

  The image y is `[N, stride H, stride W, C]`, the kernel k `[size, size, C,
  D]`, the output x `[N, H, W, D]`.
  """

  f: Form
  t: Form
  w: Form


def _family(shape: Shape) -> Forms:
  """Returns the three forms for the platform that is being traced for."""
  return _forms_of(shape, _form == "fast" and parallel.platform() == "cpu")


@functools.cache
def _forms_of(shape: Shape, cpu: bool) -> Forms:
  """Returns the three forms, those of CPU or those that XLA has."""
  native = Forms(
    f=functools.partial(_plain, shape),
    t=functools.partial(_native_t, shape),
    w=functools.partial(_native_w, shape),
  )
  if not cpu:
    return native
  f, t, w = map(jax.custom_vjp, _on_cpu(shape, native))
  # Each derivative is one of the three, again a fast form: see the module.
  f.defvjp(
    lambda y, k: (f(y, k), (y, k)), lambda r, g: (t(g, r[1]), w(r[0], g))
  )
  t.defvjp(
    lambda x, k: (t(x, k), (x, k)), lambda r, g: (f(g, r[1]), w(g, r[0]))
  )
  w.defvjp(
    lambda y, x: (w(y, x), (y, x)), lambda r, g: (t(r[1], g), f(r[0], g))
  )
  return Forms(f, t, w)


def _on_cpu(shape: Shape, native: Forms) -> Forms:
  """Returns what is fast for the channels that it is given."""
  products = Forms(
    f=functools.partial(patches.f, shape),
    t=functools.partial(patches.t, shape),
    w=functools.partial(patches.w, shape),
  )
  # Without a stride image and output may exchange their roles.
  exchanged = Forms(
    f=lambda y, k: products.t(y, _turn(k)),
    t=lambda x, k: products.f(x, _turn(k)),
    w=lambda y, x: _turn(products.w(x, y)),
  )

  def in_parts(y: jax.Array, x: jax.Array) -> jax.Array:
    # W is a sum over examples, so parts of the batch add up to it.
    parts = _num_parts(shape, y.shape)
    pairs = zip(jnp.split(y, parts), jnp.split(x, parts), strict=True)
    first, *rest = (native.w(*pair) for pair in pairs)
    return sum(rest, start=first)

  t = native.t if shape.stride == 1 else products.t
  many = Forms(f=native.f, t=t, w=in_parts)

  def choose(channels_in: int, channels_out: int) -> Forms:
    if channels_in <= FEW:
      return products
    return exchanged if channels_out <= FEW and shape.stride == 1 else many

  return Forms(
    f=lambda y, k: choose(*k.shape[2:]).f(y, k),
    t=lambda x, k: choose(*k.shape[2:]).t(x, k),
    w=lambda y, x: choose(y.shape[-1], x.shape[-1]).w(y, x),
  )


def _num_parts(shape: Shape, y_shape: tuple[int, ...]) -> int:
  """Returns into how many parts W cuts a batch of images `[N, H, W, C]`."""
  most = math.prod(y_shape) // (CACHED * shape.stride)
  if most <= 2:
    return 1
  sizes = range(1, min(most, y_shape[0]) + 1)
  return max(i for i in sizes if y_shape[0] % i == 0)


def _plain(
  shape: Shape, y: jax.Array, k: jax.Array, groups: int = 1
) -> jax.Array:
  """Returns F as the backend has it."""
  return lax.conv_general_dilated(
    y,
    k,
    (shape.stride, shape.stride),
    ((shape.padding, shape.padding), (shape.padding, shape.padding)),
    dimension_numbers=DIMS,
    feature_group_count=groups,
  )


def _native_t(shape: Shape, x: jax.Array, k: jax.Array) -> jax.Array:
  """Returns T as the backend has it."""
  n, h, w, _ = x.shape
  y_shape = (n, h * shape.stride, w * shape.stride, k.shape[2])
  y = jax.ShapeDtypeStruct(y_shape, x.dtype)
  return jax.linear_transpose(lambda y: _plain(shape, y, k), y)(x)[0]


def _native_w(shape: Shape, y: jax.Array, x: jax.Array) -> jax.Array:
  """Returns W as the backend has it."""
  k_shape = (shape.size, shape.size, y.shape[-1], x.shape[-1])
  k = jax.ShapeDtypeStruct(k_shape, x.dtype)
  return jax.linear_transpose(lambda k: _plain(shape, y, k), k)(x)[0]


def _turn(kernel: jax.Array) -> jax.Array:
  """Turns a kernel by 180 degrees and exchanges its channels."""
  return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _sum_of_shifts(kernel: jax.Array) -> jax.Array:
  """Returns `[size + 1, size + 1, ...]`: the sum over 2x2 shifts.

  It is the kernel's convolution with 2x2 ones: pooling by sums, or upsampling
  by copies, and the kernel become one kernel.
  """
  shifted = [
    jnp.pad(kernel, ((a, 1 - a), (b, 1 - b), (0, 0), (0, 0)))
    for a in range(2)
    for b in range(2)
  ]
  return sum(shifted[1:], start=shifted[0])
