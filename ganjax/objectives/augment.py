"""What D sees instead of images: `AUGMENTATIONS["diffaugment"]()`.

Both players' images go through the same random transformations and G's
gradient comes back through them: D overfits a small training set later, and G
does not learn the distortions. An example depends on its image and key alone.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganjax import errors, registry

AUGMENTATIONS = registry.Registry("augmentation")


class Augmentation(NamedTuple):
  """What is done to images, and how often.

  Attributes:
    apply: `(images [N, H, W, C] in [-1, 1], keys [N], p) -> images` of the
      same shape and type, computed in float32; `p` may be traced.
    memory: the controller's first state: float32 scalars, {} without one.
    update: `(memory, overfitting, num_images) -> memory`, once a D step, with
      the mean of sign(D(x) - 1/2) over the global batch's real images.
    probability: `memory -> p`, a scalar in [0, 1] for `apply`.
    at: step -> the augmentation then, where a number follows a schedule.
  """

  apply: Callable[..., jax.Array]
  memory: dict[str, Any]
  update: Callable[..., dict]
  probability: Callable[[dict], jax.Array]
  at: Callable[[Any], Any] | None = None


def _fixed(apply: Callable[..., jax.Array], p: float) -> Augmentation:
  keep = lambda memory, overfitting, num_images: memory
  return Augmentation(apply, {}, keep, lambda memory: jnp.float32(p))


def _batched(one: Callable) -> Callable[..., jax.Array]:
  """Maps `(image [H, W, C], key, p) -> image` over examples."""

  def apply(images, keys, p):
    if images.ndim != 4:
      raise errors.UserError(
        f"augmentations need images [N, H, W, C], not {list(images.shape)}"
      )
    p = jnp.clip(jnp.asarray(p, jnp.float32), 0.0, 1.0)
    out = jax.vmap(one, (0, 0, None))(images.astype(jnp.float32), keys, p)
    return out.astype(images.dtype)

  return apply


def _expand(policy: Iterable[str], known: Iterable[str], **groups) -> list[str]:
  """Returns the transformations that a policy names, alone or by group."""
  groups = {name: (name,) for name in known} | groups
  for name in policy:
    if name not in groups:
      raise errors.unknown("transformation of a policy", name, groups)
  return [member for name in policy for member in groups[name]]


@AUGMENTATIONS.register
def none() -> Augmentation:
  """Images as they are, and points, too."""
  return _fixed(lambda images, keys, p: images, 0.0)


def _move(image, key, max_shift: int, border: str):
  """Moves by whole pixels, up to 1/8; `border` is a mode of `jnp.pad`."""
  most = [min(max_shift, side // 8) for side in image.shape[:2]]
  padded = jnp.pad(image, [(side, side) for side in (*most, 0)], border)
  y, x = jax.random.randint(key, (2,), 0, 2 * np.array(most) + 1)
  return lax.dynamic_slice(padded, (y, x, 0), image.shape)


def _erase(image, start, stop):
  """Sets pixels whose centres (y, x) lie between `[2]` and `[2]` to 0."""
  y, x = (jnp.arange(side) + 0.5 for side in image.shape[:2])
  y, x = (start[0] < y) & (y < stop[0]), (start[1] < x) & (x < stop[1])
  return jnp.where((y[:, None] & x[None])[..., None], 0.0, image)


@AUGMENTATIONS.register
def consistency(max_shift: int = 4) -> Augmentation:
  """Flips and shifts for consistency regularisation (Zhang et al. 2020).

  A horizontal flip half of the time and a shift by a few pixels: up to
  `max_shift` in each direction, but never above 1/8 of the side. The paper
  does not say what comes in over the border: here the image, mirrored.
  """

  def one(image, key, p):
    del p
    flip_key, move_key = jax.random.split(key)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return _move(image, move_key, max_shift, "reflect")

  return _fixed(_batched(one), 1.0)


def flip_translate(images, keys, max_shift: int = 4) -> jax.Array:
  """Returns `consistency` of images `[N, H, W, C]`, given keys `[N]`."""
  return consistency(max_shift).apply(images, keys, 1.0)


def _cut_out(image, key):
  # A box may stand out of the image; an even one has one place more.
  sides = np.array(image.shape[:2])
  size = sides // 2
  middle = jax.random.randint(key, (2,), 0, sides + 1 - size % 2)
  return _erase(image, middle - size // 2, middle - size // 2 + size)


_between = lambda key, a, b: jax.random.uniform(key, (), jnp.float32, a, b)
_about = lambda x, mean, key, a, b: mean + _between(key, a, b) * (x - mean)
_DIFFAUGMENT: dict[str, Callable] = {  # (image [H, W, C], key) -> image
  "brightness": lambda x, key: x + _between(key, -0.5, 0.5),
  "saturation": lambda x, key: _about(x, x.mean(-1, keepdims=True), key, 0, 2),
  "contrast": lambda x, key: _about(x, x.mean(), key, 0.5, 1.5),
  "translation": lambda x, key: _move(x, key, max(x.shape), "constant"),
  "cutout": _cut_out,
}


@AUGMENTATIONS.register
def diffaugment(policy: tuple = ("color", "translation", "cutout")):
  """DiffAugment (Zhao et al. 2020), as the authors' code has it.

  Args:
    policy: transformations in their order. "color" is "brightness" (plus
      U(-.5, .5)), "saturation" (times U(0, 2) about a pixel's mean) and
      "contrast" (times U(.5, 1.5) about the image's mean); "translation" goes
      up to 1/8 of the side, over 0; "cutout" zeroes a box of half the sides.
  """
  names = _expand(policy, _DIFFAUGMENT, color=list(_DIFFAUGMENT)[:3])

  def one(image, key, p):
    del p
    for name, k in zip(names, jax.random.split(key, len(names)), strict=True):
      image = _DIFFAUGMENT[name](image, k)
    return image

  return _fixed(_batched(one), 1.0)


# The pipe: matrices from u `[2]` of U(-1, 1), n `[2]` of N(0, 1) and the sides
# s, (W, H). Where a transformation is not active they are 0: the identity.


def _affine(linear, offset=(0.0, 0.0, 0.0)) -> jax.Array:
  """The homogeneous `[n + 1, n + 1]` of x -> linear x + offset."""
  linear = jnp.asarray(linear)
  top = jnp.column_stack([linear, jnp.asarray(offset)[: len(linear)]])
  return jnp.concatenate([top, jnp.eye(len(linear) + 1)[-1:]])


def _turn(halves, exact=lambda x: x) -> jax.Array:
  cos, sin = exact(jnp.cos(jnp.pi * halves)), exact(jnp.sin(jnp.pi * halves))
  return _affine([[cos, -sin], [sin, cos]])


_zoom = lambda x, y: _affine([[x, 0.0], [0.0, y]])
_shift = lambda offset: _affine(jnp.eye(2), offset)
_GEOMETRY: dict[str, Callable] = {  # from a pixel to where it is read
  "xflip": lambda u, n, s: _zoom(1 - 2.0 * (u[0] > 0), 1.0),
  "rotate90": lambda u, n, s: _turn(jnp.floor(2 * u[0]) / 2, exact=jnp.round),
  "xint": lambda u, n, s: _shift(-jnp.round(s / 8 * u)),
  "scale": lambda u, n, s: _zoom(2 ** (-0.2 * n[0]), 2 ** (-0.2 * n[0])),
  "rotate": lambda u, n, s: _turn(u[0]),
  "aniso": lambda u, n, s: _zoom(2 ** (-0.2 * n[0]), 2 ** (0.2 * n[0])),
  "rotate_again": lambda u, n, s: _turn(u[0]),
  "xfrac": lambda u, n, s: _shift(-s / 8 * n),
}
_EYE = np.eye(3, dtype=np.float32)
_GRAY = np.full((3, 3), 1 / 3, np.float32)  # projects onto the gray axis
_TINT = _EYE - _GRAY
_CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
_COLORS: dict[str, Callable] = {  # the last is done first
  "saturation": lambda u, n, s: _affine(_GRAY + 2 ** n[0] * _TINT),
  "hue": lambda u, n, s: _affine(  # Rodrigues, about the gray axis
    _GRAY + jnp.cos(jnp.pi * u[0]) * _TINT + jnp.sin(jnp.pi * u[0]) * _CROSS
  ),
  "lumaflip": lambda u, n, s: _affine(_EYE - 2.0 * (u[0] > 0) * _GRAY),
  "contrast": lambda u, n, s: _affine(_EYE * 2 ** (0.5 * n[0])),
  "brightness": lambda u, n, s: _affine(_EYE, jnp.full(3, 0.2 * n[0])),
}
_BGC = ("blit", "geometric", "color")
_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def resample(image: jax.Array, inverse: jax.Array) -> jax.Array:
  """Reads `[H, W, C]` bilinearly, mirrored about its border pixels.

  `inverse [3, 3]` maps a pixel's (x, y, 1) from the centre to where it is read.
  """
  x, y = center = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
  x, y = jnp.meshgrid(jnp.arange(-x, x + 1), jnp.arange(-y, y + 1))
  x, y = (a * x + b * y + c for a, b, c in inverse[:2])
  read = lambda channel: jax.scipy.ndimage.map_coordinates(
    channel, [y + center[1], x + center[0]], order=1, mode="mirror"
  )
  return jax.vmap(read, -1, -1)(image)


def recolor(image: jax.Array, matrix: jax.Array) -> jax.Array:
  """Maps the colours of `image [H, W, C]` by `[4, 4]`; gray if C is not 3."""
  linear, offset = matrix[:3, :3], matrix[:3, 3]
  if image.shape[-1] != 3:  # As if repeated to RGB, then averaged.
    return image * (linear.sum() / 3) + offset.sum() / 3
  return _matmul(image, linear.T) + offset[None, None]


@AUGMENTATIONS.register
def pipe(p: float = 0.0, policy: tuple = _BGC, color_strength: float = 1.0):
  """The pipe of Karras et al. 2020 (appendix B) at a fixed probability.

  Resampling is bilinear, at once; the authors' works at twice the size behind
  a wavelet filter (sym6), so theirs blurs and aliases less.

  Args:
    p: how likely each transformation is.
    policy: groups or members, in any order: "blit" (xflip, rotate90, xint),
      "geometric" (scale, rotate, aniso, rotate_again, xfrac), "color"
      (brightness, contrast, lumaflip, hue, saturation), "cutout".
    color_strength: a factor on p for colours; R3GAN has 0.5, and "cutout".
  """
  known = [*_GEOMETRY, *_COLORS, "cutout"]
  groups = dict(blit=known[:3], geometric=known[3:8], color=known[8:-1])
  names = _expand(policy, known, **groups)

  def one(image, key, p):
    half = 1 - jnp.sqrt(1 - p)  # Of two rotations one is active with p.
    chances = {"rotate": half, "rotate_again": half}
    chances |= dict.fromkeys(_COLORS, color_strength * p)
    u_key, n_key = jax.random.split(key)
    uniform = jax.random.uniform(u_key, (len(names), 3), minval=-1.0)
    normal = jax.random.normal(n_key, (len(names), 2))
    sides, draws = jnp.array(image.shape[1::-1], jnp.float32), {}
    for i, name in enumerate(names):
      on = (uniform[i, 2] + 1) / 2 < chances.get(name, p)
      draws[name] = on * uniform[i, :2], on * normal[i], on * sides
    for table, transform in (_GEOMETRY, resample), (_COLORS, recolor):
      matrices = [f(*draws[k]) for k, f in table.items() if k in draws]
      if matrices:
        image = transform(image, functools.reduce(_matmul, matrices))
    if "cutout" in draws:
      u, _, size = draws["cutout"]  # The middle is anywhere in the image.
      start = (size * (2 * u + 1) / 4)[::-1]
      image = _erase(image, start, start + size[::-1] / 2)
    return image

  return _fixed(_batched(one), p)


@AUGMENTATIONS.register
def ada(
  target: float = 0.6,
  initial_p: float = 0.0,
  adjust_images: int = 500_000,
  interval: int = 4,
  max_p: float = 1.0,
  policy: tuple = _BGC,
) -> Augmentation:
  """Adaptive discriminator augmentation (Karras et al. 2020, section 3).

  `pipe` becomes more likely while D is too sure that real images are real.

  Args:
    target: where the mean of sign(D(x) - 1/2), the paper's r_t, is to be.
    initial_p: p of the first step.
    adjust_images: the images in which p can go from 0 to 1.
    interval: D steps from one move of p to the next.
    max_p: the most that p may be; the authors' code sets no bound.
    policy: as for `pipe`.
  """
  names = ("p", "overfitting", "num_images", "num_steps")
  memory = dict.fromkeys(names, np.float32(0)) | {"p": jnp.float32(initial_p)}

  def update(memory, overfitting, num_images):
    p, *sums = (memory[name] for name in names)
    new = overfitting * num_images, num_images, 1
    total, n, steps = sums = [a + b for a, b in zip(sums, new, strict=True)]
    move = jnp.sign(total / n - target) * n / adjust_images
    due = steps >= interval
    p = jnp.where(due, jnp.clip(p + move, 0.0, max_p), p)
    sums = (jnp.where(due, 0.0, x) for x in sums)
    return dict(zip(names, (p, *sums), strict=True))

  p_of = lambda memory: memory["p"]
  return Augmentation(pipe(0.0, policy).apply, memory, update, p_of)
