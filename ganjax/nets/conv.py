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
import numpy as np
from jax import lax

from ganjax import parallel
from ganjax.nets import patches
from ganjax.nets.patches import Shape

DIMS = ("NHWC", "HWIO", "NHWC")

# Numbers of an image part, for each stride, with which W stays in the cache of
# a CPU's core: measured, see results/speed.md.
CACHED = 2**18
# A TPU turns a kernel in less time than images of so many times its size.
LARGER = 2
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
    return _family(shape).f(x, kernel)
  if groups > 1 and _on("tpu"):
    kernel, groups = _wide_groups(kernel, groups)
  return _plain(shape, x, kernel, groups)


def _wide_groups(kernel: jax.Array, groups: int) -> tuple[jax.Array, int]:
  """Returns a kernel and a number of groups that fill a TPU's lanes.

  So many groups become one that it has 128 channels, with zeros between those
  that do not mix: a TPU multiplies by the zeros in the time in which it would
  wait, and does not move its images into an order of groups and back.
  """
  size, _, channels, out = kernel.shape
  fitting = range(1, parallel.LANES // channels + 1)
  merged = max((n for n in fitting if groups % n == 0), default=1)
  if merged == 1:
    return kernel, groups
  group_of_input = np.arange(merged * channels) // channels
  group_of_output = np.arange(out) // (out // groups) % merged
  mixes = group_of_input[:, None] == group_of_output
  tiled = jnp.tile(kernel, (1, 1, merged, 1))
  mask = np.broadcast_to(mixes, (size, size, *mixes.shape))
  return jnp.where(mask, tiled, 0), groups // merged


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
  shape = Shape(4, 2, 1)
  if _on("cpu"):
    return _family(shape).t(x, _turn(kernel))
  return _over_zeros(shape)(x, kernel)


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
  shape = Shape(len(kernel) + 1, 2, half)
  if half == 0 and not _on("tpu"):
    return upsample(conv(x, kernel))
  if _on("cpu"):
    return _family(shape).t(x, _sum_of_shifts(_turn(kernel)))
  # The set of shifts is its own mirror image: nothing needs to be turned.
  return _over_zeros(shape)(x, _sum_of_shifts(kernel))


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
  if _on("cpu"):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
  # An axis of two is padded to eight on a TPU.
  return (
    lax.reduce_window(
      x, np.zeros((), x.dtype), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    / 4
  )


def fir_up(x: jax.Array) -> jax.Array:
  """Doubles the resolution of `[N, H, W, C]` by the filter [1, 3, 3, 1] / 4.

  Bilinear interpolation, but with 0 beyond the borders: what `upfirdn2d` of
  StyleGAN makes of that filter (Karras et al. 2020).
  """
  if _on("tpu"):
    return _along_both_sides(lambda size: 2 * _fir_matrix(2 * size).T, x)
  for axis in (1, 2):
    before, after = _neighbours(x, axis)
    # Of two new pixels in the place of an old one, each is three quarters of
    # the old one and a quarter of the neighbour on its side.
    even = 0.75 * x + 0.25 * before
    odd = 0.75 * x + 0.25 * after
    shape = [*x.shape]
    shape[axis] *= 2
    x = jnp.stack((even, odd), axis + 1).reshape(shape)
  return x


def fir_down(x: jax.Array) -> jax.Array:
  """Halves the resolution of `[N, H, W, C]`: 1/4 of the adjoint of `fir_up`."""
  if _on("tpu"):
    return _along_both_sides(_fir_matrix, x)
  for axis in (1, 2):
    shape = [*x.shape]
    shape[axis : axis + 1] = [shape[axis] // 2, 2]
    even, odd = jnp.split(x.reshape(shape), 2, axis + 1)
    even = even.squeeze(axis + 1)
    odd = odd.squeeze(axis + 1)
    # [1, 3, 3, 1] / 8 around each pair of pixels.
    before, _ = _neighbours(odd, axis)
    _, after = _neighbours(even, axis)
    x = 0.375 * (even + odd) + 0.125 * (before + after)
  return x


def _neighbours(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  """Returns x[i - 1] and x[i + 1] along an axis, 0 beyond the borders."""
  edges = [(0, 0)] * x.ndim
  edges[axis] = (1, 1)
  padded = jnp.pad(x, edges)
  size = x.shape[axis]
  before = lax.slice_in_dim(padded, 0, size, axis=axis)
  after = lax.slice_in_dim(padded, 2, size + 2, axis=axis)
  return before, after


def _along_both_sides(
  matrix: Callable[[int], np.ndarray], x: jax.Array
) -> jax.Array:
  """Multiplies the columns and the rows of images `[N, H, W, C]`.

  An axis of pairs of pixels would be padded from 2 to 8 on a TPU, and three
  passes of its products are as good as float32 for these numbers.

  Args:
    matrix: size of a side -> `[new size, size]`.
    x: the images.
  """
  high = lax.Precision.HIGH
  columns = jnp.asarray(matrix(x.shape[2]), x.dtype)
  rows = jnp.asarray(matrix(x.shape[1]), x.dtype)
  x = jnp.einsum("wv,nhvc->nhwc", columns, x, precision=high)
  return jnp.einsum("hg,ngwc->nhwc", rows, x, precision=high)


def _fir_matrix(size: int) -> np.ndarray:
  """Returns `[size / 2, size]`: the filter [1, 3, 3, 1] / 8 at every pair."""
  padded = np.zeros((size // 2, size + 2))
  for i, row in enumerate(padded):
    row[2 * i : 2 * i + 4] = np.array([1, 3, 3, 1]) / 8
  return padded[:, 1:-1]


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


def _on(platform: str) -> bool:
  """Returns whether what is traced will run there, in the form for it."""
  return _form == "fast" and parallel.platform() == platform


def _family(shape: Shape) -> Forms:
  """Returns the three forms for the platform that is being traced for."""
  if _form == "plain":
    return _native(shape)
  return _fast(shape, parallel.platform())


@functools.cache
def _fast(shape: Shape, platform: str) -> Forms:
  """Returns the three forms of a platform."""
  native = _native(shape)
  if platform == "cpu":
    return _with_adjoints(_on_cpu(shape, native))
  # JAX would write the derivative of T to its kernel as a convolution over
  # zeros, for which a TPU turns every image. W needs no such thing.
  return _with_adjoints(native) if platform == "tpu" else native


def _native(shape: Shape) -> Forms:
  """Returns the three forms as a backend has them."""
  return Forms(
    f=functools.partial(_plain, shape),
    t=functools.partial(_native_t, shape),
    w=functools.partial(_native_w, shape),
  )


def _with_adjoints(forms: Forms) -> Forms:
  """Returns forms whose derivatives are one another, see the module."""
  f, t, w = map(jax.custom_vjp, forms)
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


def _over_zeros(shape: Shape) -> Form:
  """Returns T as a convolution over inserted zeros, of a kernel unturned.

  It takes x and a kernel `[size, size, D, C]`: it is T of that kernel turned.
  Compilers of accelerators leave the zeros out.
  """
  return _over_zeros_on(shape, _on("tpu"))


@functools.cache
def _over_zeros_on(shape: Shape, tpu: bool) -> Form:
  """Returns `_over_zeros` for TPUs or for other accelerators."""
  size, stride, padding = shape
  low = size - 1 - padding
  high = stride - 1 + padding

  def native(x: jax.Array, k: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
      x,
      k,
      (1, 1),
      ((low, high), (low, high)),
      lhs_dilation=(stride, stride),
      dimension_numbers=DIMS,
    )

  if not tpu:
    return native
  t = jax.custom_vjp(native)

  def backward(residuals, g):
    x, k = residuals
    to_x, to_k = jax.vjp(native, x, k)[1](g)
    # The compiler would turn every image of `g` in place of the kernel.
    if g.size > LARGER * k.size:
      to_k = _turn(_native_w(shape, g, x))
    return to_x, to_k

  t.defvjp(lambda x, k: (native(x, k), (x, k)), backward)
  return t


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
