"""The transformations of ADA's pipe (Karras et al. 2020, appendix B).

Each transformation but "cutout" is a matrix: of homogeneous pixel coordinates
if it is geometric, of homogeneous colours if it is one of colour. Where it is
not active its matrix is the identity. The matrices are multiplied first, so
that an image is resampled once and recoloured once, whatever is active.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# (u [2] of U(-1, 1), n [2] of N(0, 1), s [2]: the sides W and H) -> a matrix.
# All three are 0 where the transformation is not active.
Matrix = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _affine(linear, offset=(0.0, 0.0, 0.0)) -> jax.Array:
  """Returns x -> linear x + offset as a homogeneous `[n + 1, n + 1]`."""
  linear = jnp.asarray(linear)
  n = len(linear)
  top = jnp.column_stack([linear, jnp.asarray(offset)[:n]])
  return jnp.concatenate([top, jnp.eye(n + 1)[-1:]])


def _zoom(x, y) -> jax.Array:
  return _affine([[x, 0.0], [0.0, y]])


def _shift(offset) -> jax.Array:
  return _affine(jnp.eye(2), offset)


def _rotation(cos, sin) -> jax.Array:
  return _affine([[cos, -sin], [sin, cos]])


def _turn(halves) -> jax.Array:
  """Turns by `halves` of a half circle."""
  return _rotation(jnp.cos(jnp.pi * halves), jnp.sin(jnp.pi * halves))


def _quarter_turn(halves) -> jax.Array:
  """Turns by a multiple of a quarter, with entries of exactly -1, 0 and 1.

  Rounded, they move every pixel onto another one; nothing is interpolated.
  """
  cos = jnp.round(jnp.cos(jnp.pi * halves))
  sin = jnp.round(jnp.sin(jnp.pi * halves))
  return _rotation(cos, sin)


# These map a pixel of the result to where it is read in the image: each is
# the inverse of what it does to the image. In the paper's order.
GEOMETRY: dict[str, Matrix] = {
  # Half of the active flips flip, so that both are as likely.
  "xflip": lambda u, n, s: _zoom(1 - 2.0 * (u[0] > 0), 1.0),
  # By 0, 1, 2 or 3 quarters.
  "rotate90": lambda u, n, s: _quarter_turn(jnp.floor(2 * u[0]) / 2),
  # By whole pixels, up to 1/8 of the side.
  "xint": lambda u, n, s: _shift(-jnp.round(s / 8 * u)),
  # By a log-normal factor, of standard deviation .2 in octaves.
  "scale": lambda u, n, s: _zoom(2 ** (-0.2 * n[0]), 2 ** (-0.2 * n[0])),
  # By any angle. It comes before and after "aniso", which so acts along any
  # axis.
  "rotate": lambda u, n, s: _turn(u[0]),
  # By such a factor along x, and by its inverse along y.
  "aniso": lambda u, n, s: _zoom(2 ** (-0.2 * n[0]), 2 ** (0.2 * n[0])),
  "rotate_again": lambda u, n, s: _turn(u[0]),
  # By a normal share of the side, of standard deviation 1/8.
  "xfrac": lambda u, n, s: _shift(-s / 8 * n),
}

_EYE = np.eye(3, dtype=np.float32)
# Projects a colour onto the gray axis (1, 1, 1) / sqrt 3: its luma.
_GRAY = np.full((3, 3), 1 / 3, np.float32)
# What is left of the colour: its hue and saturation.
_TINT = _EYE - _GRAY
# The cross product with the gray axis.
_CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)


def _hue(u, n, s) -> jax.Array:
  """Turns colours about the gray axis, by Rodrigues' formula."""
  del n, s
  angle = jnp.pi * u[0]
  return _affine(_GRAY + jnp.cos(angle) * _TINT + jnp.sin(angle) * _CROSS)


# Matrices act from right to left: the last of these is the first of the
# paper's list.
COLORS: dict[str, Matrix] = {
  # Times a log-normal factor, of standard deviation 1 in octaves.
  "saturation": lambda u, n, s: _affine(_GRAY + 2 ** n[0] * _TINT),
  "hue": _hue,
  # The luma of half of the images is negated, their hue stays.
  "lumaflip": lambda u, n, s: _affine(_EYE - 2.0 * (u[0] > 0) * _GRAY),
  # Times a log-normal factor, of standard deviation .5 in octaves.
  "contrast": lambda u, n, s: _affine(_EYE * 2 ** (0.5 * n[0])),
  # Plus a normal number, of standard deviation .2, in [-1, 1].
  "brightness": lambda u, n, s: _affine(_EYE, jnp.full(3, 0.2 * n[0])),
}

TRANSFORMATIONS = (*GEOMETRY, *COLORS, "cutout")
# The names by which the paper calls several at once.
GROUPS: dict[str, tuple[str, ...]] = {
  "blit": ("xflip", "rotate90", "xint"),
  "geometric": ("scale", "rotate", "aniso", "rotate_again", "xfrac"),
  "color": tuple(COLORS),
}


def transform(
  image: jax.Array,
  key: jax.Array,
  p: jax.Array,
  names: Sequence[str],
  color_strength: float,
) -> jax.Array:
  """Applies each of the transformations `names` with its probability.

  Args:
    image: `[H, W, C]`, in [-1, 1].
    key: all numbers of this image are drawn from it.
    p: how likely each transformation is, in [0, 1].
    names: of `TRANSFORMATIONS`, in any order: they are always applied in the
      paper's.
    color_strength: a factor on p for the colours.
  """
  # "rotate" and "rotate_again" are independent: with this probability of each
  # at least one of them is active with p, as 1 - (1 - half)^2 = p.
  half = 1 - jnp.sqrt(1 - p)
  chances = {
    **dict.fromkeys(COLORS, color_strength * p),
    "rotate": half,
    "rotate_again": half,
  }
  u_key, n_key = jax.random.split(key)
  uniform = jax.random.uniform(u_key, (len(names), 3), minval=-1.0)
  normal = jax.random.normal(n_key, (len(names), 2))
  sides = jnp.array(image.shape[1::-1], jnp.float32)
  draws = {}
  for i, name in enumerate(names):
    # The third number, moved to U(0, 1), decides whether it is active.
    active = (uniform[i, 2] + 1) / 2 < chances.get(name, p)
    draws[name] = (active * uniform[i, :2], active * normal[i], active * sides)
  geometry = _product(GEOMETRY, draws)
  if geometry is not None:
    image = resample(image, geometry)
  color = _product(COLORS, draws)
  if color is not None:
    image = recolor(image, color)
  if "cutout" in draws:
    # A box of half the sides, whose middle is anywhere in the image: it starts
    # at size (u + 1) / 2 - size / 4. An inactive one has no size.
    u, _, size = draws["cutout"]
    start = (size * (2 * u + 1) / 4)[::-1]
    image = erase(image, start, start + size[::-1] / 2)
  return image


def _product(
  table: Mapping[str, Matrix],
  draws: Mapping[str, tuple[jax.Array, jax.Array, jax.Array]],
) -> jax.Array | None:
  """Returns the product of the drawn matrices of a table, None without any."""
  matrices = [
    matrix(*draws[name]) for name, matrix in table.items() if name in draws
  ]
  return functools.reduce(_matmul, matrices) if matrices else None


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  # At a GPU's or TPU's default precision, pixels would miss their places.
  return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def resample(image: jax.Array, inverse: jax.Array) -> jax.Array:
  """Moves the pixels of an image, with bilinear interpolation.

  Args:
    image: `[H, W, C]`, continued by its mirror image about its border pixels.
    inverse: `[3, 3]`, maps (x, y, 1) of a pixel of the result, counted from
      the image's centre, to where it is read.

  Returns:
    The moved image, `[H, W, C]`.
  """
  center_x = (image.shape[1] - 1) / 2
  center_y = (image.shape[0] - 1) / 2
  x, y = jnp.meshgrid(
    jnp.arange(-center_x, center_x + 1), jnp.arange(-center_y, center_y + 1)
  )
  read_x, read_y = (a * x + b * y + c for a, b, c in inverse[:2])
  places = [read_y + center_y, read_x + center_x]

  def read(channel):
    return jax.scipy.ndimage.map_coordinates(
      channel, places, order=1, mode="mirror"
    )

  return jax.vmap(read, -1, -1)(image)


def recolor(image: jax.Array, matrix: jax.Array) -> jax.Array:
  """Maps the colours of an image.

  Args:
    image: `[H, W, C]`. If C is not 3, each channel counts as gray.
    matrix: `[4, 4]`, of homogeneous (R, G, B, 1).
  """
  linear = matrix[:3, :3]
  offset = matrix[:3, 3]
  if image.shape[-1] != 3:
    # What comes out if gray is repeated to RGB, mapped, and averaged again.
    return image * (linear.sum() / 3) + offset.sum() / 3
  return _matmul(image, linear.T) + offset[None, None]


def erase(image: jax.Array, start: jax.Array, stop: jax.Array) -> jax.Array:
  """Sets the pixels of a box to 0, which is gray.

  Args:
    image: `[H, W, C]`.
    start: (y, x) `[2]` in pixels. A pixel is in the box if its centre is.
    stop: (y, x) `[2]`, may lie outside of the image, as `start` may.
  """
  y = jnp.arange(image.shape[0]) + 0.5
  x = jnp.arange(image.shape[1]) + 0.5
  in_rows = (start[0] < y) & (y < stop[0])
  in_columns = (start[1] < x) & (x < stop[1])
  in_box = in_rows[:, None] & in_columns[None]
  return jnp.where(in_box[..., None], 0.0, image)
