"""What D sees instead of images: `AUGMENTATIONS.find("diffaugment")()`.

The images of both players go through the same random transformations, and the
gradient of G comes back through them. So D overfits a small training set
later, and G does not learn the distortions. What an example becomes depends on
its image and its key alone.

`AUGMENTATIONS` holds those of this file; one of a user's own is registered by
`@AUGMENTATIONS.register` or named `module:attribute`. It is any function that
returns an `Augmentation`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ganjax import errors, registry
from ganjax.objectives import pipe as ada_pipe

AUGMENTATIONS = registry.Registry("augmentation")

# The state of a controller: float32 scalars by name, {} without a controller.
Memory: TypeAlias = dict[str, jax.Array]


class Augmentation(NamedTuple):
  """What is done to images, and how often.

  Attributes:
    apply: `(images [N, H, W, C] in [-1, 1], keys [N], p) -> images` of the
      same shape and type, computed in float32; `p` may be traced.
    memory: the controller's first state.
    update: `(memory, overfitting, num_images) -> memory`, called once in each
      D step with the mean of sign(D(x) - 1/2) over the global batch's real
      images, and their number.
    probability: `memory -> p`, a scalar in [0, 1], for `apply`.
    at: `step -> Augmentation`, where a number follows a schedule.
  """

  apply: Callable[[jax.Array, jax.Array, jax.Array | float], jax.Array]
  memory: Memory
  update: Callable[[Memory, jax.Array, int], Memory]
  probability: Callable[[Memory], jax.Array]
  at: "Callable[[jax.Array], Augmentation] | None" = None


def _fixed(apply: Callable[..., jax.Array], p: float) -> Augmentation:
  """Returns an augmentation whose probability never changes."""

  def update(memory, overfitting, num_images):
    del overfitting, num_images
    return memory

  def probability(memory):
    del memory
    return jnp.float32(p)

  return Augmentation(
    apply=apply, memory={}, update=update, probability=probability
  )


def _batched(
  augment_one: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
) -> Callable[..., jax.Array]:
  """Maps `(image [H, W, C], key, p) -> image` over examples."""

  def apply(images, keys, p):
    if images.ndim != 4:
      raise errors.UserError(
        f"augmentations need images [N, H, W, C], not {list(images.shape)}"
      )
    p = jnp.clip(jnp.asarray(p, jnp.float32), 0.0, 1.0)
    over_examples = jax.vmap(augment_one, (0, 0, None))
    augmented = over_examples(images.astype(jnp.float32), keys, p)
    return augmented.astype(images.dtype)

  return apply


def _expand(
  policy: Iterable[str],
  known: Iterable[str],
  groups: Mapping[str, Iterable[str]],
) -> list[str]:
  """Returns the transformations that a policy names, alone or by group.

  Raises:
    UserError: a name is neither a transformation nor a group.
  """
  members = {**{name: (name,) for name in known}, **groups}
  for name in policy:
    if name not in members:
      raise errors.unknown("transformation of a policy", name, members)
  return [member for name in policy for member in members[name]]


@AUGMENTATIONS.register
def none() -> Augmentation:
  """Leaves images, or points, as they are."""

  def apply(images, keys, p):
    del keys, p
    return images

  return _fixed(apply, 0.0)


def _move(
  image: jax.Array, key: jax.Array, max_shift: int, border: str
) -> jax.Array:
  """Moves an image by whole pixels, up to 1/8 of its sides.

  Args:
    image: `[H, W, C]`.
    key: each shift is as likely.
    max_shift: the most in each direction, in pixels.
    border: what comes in over the border, a mode of `jnp.pad`.
  """
  most = [min(max_shift, side // 8) for side in image.shape[:2]]
  padded = jnp.pad(image, [(side, side) for side in (*most, 0)], border)
  y, x = jax.random.randint(key, (2,), 0, 2 * np.array(most) + 1)
  return lax.dynamic_slice(padded, (y, x, 0), image.shape)


@AUGMENTATIONS.register
def consistency(max_shift: int = 4) -> Augmentation:
  """Flips and shifts for consistency regularisation (Zhang et al. 2020).

  Half of the images are flipped horizontally, and each is moved by a few
  pixels. The paper does not say what comes in over the border; here it is the
  image, mirrored.

  Args:
    max_shift: the most in each direction, in pixels, but never more than 1/8
      of the side.
  """

  def augment_one(image, key, p):
    del p
    flip_key, move_key = jax.random.split(key)
    image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    return _move(image, move_key, max_shift, "reflect")

  return _fixed(_batched(augment_one), 1.0)


def flip_translate(
  images: jax.Array, keys: jax.Array, max_shift: int = 4
) -> jax.Array:
  """Returns what `consistency` makes of images `[N, H, W, C]` by keys `[N]`."""
  return consistency(max_shift).apply(images, keys, 1.0)


def _scale_about(mean, image, key, low: float, high: float) -> jax.Array:
  """Scales the distances of pixels from `mean` by one U(low, high)."""
  factor = jax.random.uniform(key, (), jnp.float32, low, high)
  return mean + factor * (image - mean)


def _brightness(image, key):
  return image + jax.random.uniform(key, (), jnp.float32, -0.5, 0.5)


def _saturation(image, key):
  gray = image.mean(-1, keepdims=True)
  return _scale_about(gray, image, key, 0, 2)


def _contrast(image, key):
  return _scale_about(image.mean(), image, key, 0.5, 1.5)


def _translation(image, key):
  # The bound of 1/8 of the side is the only one.
  return _move(image, key, max(image.shape), "constant")


def _cutout(image, key):
  sides = np.array(image.shape[:2])
  size = sides // 2
  # As in the authors' code the box may stand out of the image; where its side
  # is even, there is one place more for its middle.
  middle = jax.random.randint(key, (2,), 0, sides + 1 - size % 2)
  start = middle - size // 2
  return ada_pipe.erase(image, start, start + size)


# name -> (image [H, W, C], key) -> image
_DIFFAUGMENT: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
  "brightness": _brightness,
  "saturation": _saturation,
  "contrast": _contrast,
  "translation": _translation,
  "cutout": _cutout,
}


@AUGMENTATIONS.register
def diffaugment(
  policy: tuple = ("color", "translation", "cutout"),
) -> Augmentation:
  """DiffAugment (Zhao et al. 2020), as in the authors' code.

  Args:
    policy: transformations in their order. "color" is "brightness" (plus
      U(-.5, .5)), "saturation" (times U(0, 2) about a pixel's mean) and
      "contrast" (times U(.5, 1.5) about the image's mean). "translation" moves
      by up to 1/8 of the side, and zeros come in. "cutout" zeroes a box of
      half the sides.
  """
  groups = {"color": ("brightness", "saturation", "contrast")}
  names = _expand(policy, _DIFFAUGMENT, groups)

  def augment_one(image, key, p):
    del p  # Each image is always transformed.
    keys = jax.random.split(key, len(names))
    for name, its_key in zip(names, keys, strict=True):
      image = _DIFFAUGMENT[name](image, its_key)
    return image

  return _fixed(_batched(augment_one), 1.0)


@AUGMENTATIONS.register
def pipe(
  p: float = 0.0,
  policy: tuple = ("blit", "geometric", "color"),
  color_strength: float = 1.0,
) -> Augmentation:
  """The pipe of Karras et al. 2020 (appendix B) at a fixed probability.

  Images are resampled once, bilinearly. The authors' code works at twice the
  size behind a wavelet filter (sym6), so theirs blurs and aliases less.

  Args:
    p: how likely each transformation is.
    policy: groups or members, in any order: "blit" (xflip, rotate90, xint),
      "geometric" (scale, rotate, aniso, rotate_again, xfrac), "color"
      (brightness, contrast, lumaflip, hue, saturation), "cutout".
    color_strength: a factor on p for colours; R3GAN has 0.5, and "cutout".
  """
  names = _expand(policy, ada_pipe.TRANSFORMATIONS, ada_pipe.GROUPS)

  def augment_one(image, key, p):
    return ada_pipe.transform(image, key, p, names, color_strength)

  return _fixed(_batched(augment_one), p)


@AUGMENTATIONS.register
def ada(
  target: float = 0.6,
  initial_p: float = 0.0,
  adjust_images: int = 500_000,
  interval: int = 4,
  max_p: float = 1.0,
  policy: tuple = ("blit", "geometric", "color"),
) -> Augmentation:
  """Adaptive discriminator augmentation (Karras et al. 2020, section 3).

  The transformations of `pipe` become more likely while D is too sure that
  real images are real, which is the first sign that it overfits.

  Args:
    target: where the mean of sign(D(x) - 1/2), the paper's r_t, is to be.
    initial_p: p of the first step.
    adjust_images: the number of real images in which p can go from 0 to 1.
    interval: D steps from one move of p to the next.
    max_p: the most that p may be; the authors' code sets no bound.
    policy: as for `pipe`.
  """
  # p, and since its last move: the sum of the images' signs, and the numbers
  # of images and of steps.
  memory = {
    "p": jnp.float32(initial_p),
    "overfitting": np.float32(0),
    "num_images": np.float32(0),
    "num_steps": np.float32(0),
  }

  def update(memory, overfitting, num_images):
    sum_of_signs = memory["overfitting"] + overfitting * num_images
    seen = memory["num_images"] + num_images
    steps = memory["num_steps"] + 1
    # p moves at a constant speed, towards more or less augmentation.
    move = jnp.sign(sum_of_signs / seen - target) * seen / adjust_images
    moved = jnp.clip(memory["p"] + move, 0.0, max_p)
    due = steps >= interval
    return {
      "p": jnp.where(due, moved, memory["p"]),
      "overfitting": jnp.where(due, 0.0, sum_of_signs),
      "num_images": jnp.where(due, 0.0, seen),
      "num_steps": jnp.where(due, 0.0, steps),
    }

  def probability(memory):
    return memory["p"]

  return Augmentation(
    apply=pipe(0.0, policy).apply,
    memory=memory,
    update=update,
    probability=probability,
  )
