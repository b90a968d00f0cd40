"""Transformations and the controller, by hand; laws over the registry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.objectives import augment

N = 16
SHAPES = [(N, 9, 14, 1), (N, 16, 12, 3)]
PIPE = dict(policy=("blit", "geometric", "color", "cutout"))
# name -> hyper-parameters. `ada` does what `pipe` does, as one test says.
HYPER = {"none": {}, "consistency": {}, "diffaugment": {}, "pipe": PIPE}
SHORT = {  # A little of each kind, which compiles sooner.
  **HYPER,
  "diffaugment": dict(policy=("contrast", "cutout")),
  "pipe": dict(policy=("rotate90", "cutout")),
}


def images_of(shape, seed=0):
  images = np.random.RandomState(seed).uniform(-1, 1, shape)
  return images.astype(np.float32)


@functools.cache
def keys_of(n):
  return jax.random.split(jax.random.key(1), n)


@functools.cache
def jitted(name, **hyper):
  apply = jax.jit(augment.AUGMENTATIONS.find(name)(**hyper).apply)
  return lambda images, keys, p: np.asarray(apply(images, keys, p))


def equal(actual, desired, atol=1e-6):
  np.testing.assert_allclose(actual, desired, atol=atol)


def program(name, **hyper):
  """Returns what `apply` traces to, which compiles nothing."""
  apply = augment.AUGMENTATIONS.find(name)(**hyper).apply
  args = jax.ShapeDtypeStruct((2, 8, 16, 3), jnp.float32), keys_of(2), 0.5
  return str(jax.make_jaxpr(apply)(*args))


# Laws over the registry.


def test_every_augmentation_is_here():
  assert HYPER.keys() | {"ada"} == augment.AUGMENTATIONS.keys()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", HYPER)
def test_laws(name, shape):
  apply = jitted(name, **HYPER[name])
  images = images_of(shape)
  keys = keys_of(N)
  out = apply(images, keys, 0.7)
  assert out.shape == shape and out.dtype == jnp.float32
  assert np.isfinite(out).all()
  # An example's result is a matter of its image and key, not of its place.
  order = np.random.RandomState(0).permutation(N)
  moved = apply(images[order], keys[order], 0.7)
  np.testing.assert_array_equal(moved, out[order])
  # The same image with other keys becomes other images.
  same = apply(jnp.broadcast_to(images[:1], shape), keys, 0.7)
  different = len(np.unique(np.asarray(same).reshape(N, -1), axis=0))
  assert different == 1 if name == "none" else different > N // 2
  if name in ("none", "pipe"):
    np.testing.assert_array_equal(apply(images, keys, 0.0), images)


@pytest.mark.parametrize("name", HYPER)
def test_one_example_without_jit_and_bfloat16(name):
  apply = augment.AUGMENTATIONS.find(name)(**SHORT[name]).apply
  images = images_of(SHAPES[1])
  keys = keys_of(N)
  out = jitted(name, **SHORT[name])(images, keys, 0.7)
  equal(apply(images[3:4], keys[3:4], 0.7), out[3:4], 1e-5)
  half = jax.eval_shape(apply, images.astype(jnp.bfloat16), keys, 0.7)
  assert half.dtype == jnp.bfloat16 and half.shape == images.shape


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_mistakes_and_memory(name):
  augmentation = augment.AUGMENTATIONS.find(name)()
  if name == "none":  # Points are data, too.
    assert augmentation.apply(jnp.ones((9, 2)), keys_of(9), 0.5).shape == (9, 2)
  else:
    with pytest.raises(errors.UserError, match=r"\[N, H, W, C\], not \[9, 2\]"):
      augmentation.apply(jnp.ones((9, 2)), keys_of(9), 0.5)
  # Memory keeps its structure and types, so a step can carry it.
  new = augmentation.update(augmentation.memory, jnp.float32(1), 8)
  assert new.keys() == augmentation.memory.keys()
  assert all(x.dtype == jnp.float32 and x.shape == () for x in new.values())
  assert augmentation.probability(new).dtype == jnp.float32


@pytest.mark.parametrize("name", ["diffaugment", "pipe", "ada"])
def test_unknown_transformations_are_named(name):
  with pytest.raises(errors.UserError, match="'colour'.* did you mean 'color'"):
    augment.AUGMENTATIONS.find(name)(policy=("cutout", "colour"))


@pytest.mark.parametrize("name", HYPER)
def test_penalties_differentiate_through(name):
  """|dD/dx|^2 and its gradient, for the critic D(x) = sum T(x)^3."""
  apply = augment.AUGMENTATIONS.find(name)(**SHORT[name]).apply
  images = images_of((2, 8, 8, 3))
  keys = keys_of(2)

  def penalty(x):
    grad = jax.grad(lambda y: (apply(y, keys, 0.7) ** 3).sum())(x)
    return (grad**2).sum()

  second = jax.jit(jax.grad(penalty))(images)
  assert jnp.isfinite(second).all() and jnp.abs(second).max() > 0.1
  if name == "none":  # (3 x^2)^2 = 9 x^4.
    equal(second, 36 * images**3, 1e-4)


# DiffAugment, by hand.


def diffaugment(op, images):
  apply = jitted("diffaugment", policy=(op,))
  return np.asarray(apply(images, keys_of(len(images)), 1.0))


def gradient(op, images, weights):
  """Returns the gradient of the weighted sum of what `op` makes of images."""
  apply = augment.AUGMENTATIONS.find("diffaugment")(policy=(op,)).apply
  keys = keys_of(len(images))

  def total(x):
    return (weights * apply(x, keys, 1.0)).sum()

  return jax.jit(jax.grad(total))(images)


def test_brightness_adds_one_number_to_an_image():
  images = images_of((64, 8, 8, 3))
  added = diffaugment("brightness", images) - images
  equal(added, np.broadcast_to(added[:, :1, :1, :1], added.shape))
  numbers = added[:, 0, 0, 0]
  assert -0.5 <= numbers.min() < -0.4 and 0.4 < numbers.max() <= 0.5
  ones = jnp.ones_like(images)
  equal(gradient("brightness", images, ones), ones)


@pytest.mark.parametrize(
  "op, axes, low, high",
  [("saturation", 3, 0, 2), ("contrast", (1, 2, 3), 0.5, 1.5)],
)
def test_scaling_keeps_the_mean(op, axes, low, high):
  images = images_of((64, 8, 8, 3))
  out = diffaugment(op, images)
  mean = images.mean(axes, keepdims=True)
  equal(out.mean(axes, keepdims=True), mean)
  scale = np.asarray((out - mean) * (images - mean)).sum((1, 2, 3))
  scale /= np.asarray((images - mean) ** 2).sum((1, 2, 3))
  equal(out, mean + scale[:, None, None, None] * (images - mean), 1e-5)
  assert low <= scale.min() < low + 0.15 * (high - low)
  assert high >= scale.max() > high - 0.15 * (high - low)


def test_saturation_leaves_gray_alone():
  images = images_of((4, 8, 8, 1))
  equal(diffaugment("saturation", images), images)


def test_color_is_the_three_in_their_order():
  three = ("brightness", "saturation", "contrast")
  by_name = program("diffaugment", policy=three)
  assert program("diffaugment", policy=("color",)) == by_name
  assert program("diffaugment", policy=three[::-1]) != by_name


def moved(image, dy, dx):
  out = np.roll(image, (dy, dx), (0, 1))
  out[: max(dy, 0)] = out[len(out) + min(dy, 0) :] = 0
  out[:, : max(dx, 0)] = out[:, out.shape[1] + min(dx, 0) :] = 0
  return out


def test_translation_is_a_roll_over_zeros_and_its_gradient_goes_back():
  images = np.asarray(images_of((64, 16, 24, 1)))  # Up to 2 and 3 pixels.
  weights = jnp.array(images_of((64, 16, 24, 1), seed=5))
  out = diffaugment("translation", images)
  grads = np.asarray(gradient("translation", images, weights))
  shifts = [(y, x) for y in range(-2, 3) for x in range(-3, 4)]
  found = set()
  for i, image in enumerate(images):
    same = [s for s in shifts if (moved(image, *s) == out[i]).all()]
    assert len(same) == 1
    (y, x) = same[0]
    equal(grads[i], moved(np.asarray(weights[i]), -y, -x))
    found.add((y, x))
  assert {y for y, _ in found} == set(range(-2, 3))
  assert {x for _, x in found} == set(range(-3, 4))


def test_cutout_zeroes_a_box_of_half_the_sides():
  out = diffaugment("cutout", jnp.ones((256, 8, 10, 1)))[..., 0]
  heights = set()
  widths = set()
  for image in out:
    rows = np.where((image == 0).any(1))[0]
    columns = np.where((image == 0).any(0))[0]
    assert set(np.unique(image)) == {0.0, 1.0}
    assert (image == 0).sum() == len(rows) * len(columns)
    heights.add((rows[0], len(rows)))
    widths.add((columns[0], len(columns)))
  # The middle is any of 9 rows: 4 inside, less where the box stands out.
  assert heights == {(0, 2), (0, 3)} | {(y, 4) for y in range(5)} | {
    (5, 3),
    (6, 2),
  }
  # 10 // 2 is odd: the middle is any of the 10 columns.
  assert widths == {(0, 3), (0, 4)} | {(x, 5) for x in range(6)} | {
    (6, 4),
    (7, 3),
  }


def test_gradient_of_cutout_is_its_mask():
  ones = jnp.ones((256, 8, 10, 1))
  mask = diffaugment("cutout", ones)
  np.testing.assert_array_equal(gradient("cutout", ones, ones), mask)


def test_flip_translate_by_hand():
  images = np.asarray(images_of((64, 8, 16, 1)))
  out = np.asarray(jax.jit(augment.flip_translate)(images, keys_of(64)))
  # Each image is exactly one of 30: flipped or not, then moved.
  found = []
  for image, result in zip(images, out, strict=True):
    for flip in False, True:
      wide = image[:, ::-1] if flip else image
      wide = np.pad(wide, ((1, 1), (2, 2), (0, 0)), "reflect")
      found += [
        (flip, y, x)
        for y in range(3)
        for x in range(5)
        if (wide[y : y + 8, x : x + 16] == result).all()
      ]
  assert len(found) == 64
  assert {y for _, y, _ in found} == {0, 1, 2}
  assert {x for _, _, x in found} == {0, 1, 2, 3, 4}
  assert 20 < sum(flip for flip, _, _ in found) < 44


def test_shifts_are_bounded():
  assert program("consistency") == program("consistency", max_shift=2)
  assert program("consistency") != program("consistency", max_shift=1)


# The controller, by hand.


def test_fixed_probabilities():
  for name, p in ("none", 0.0), ("diffaugment", 1.0), ("consistency", 1.0):
    augmentation = augment.AUGMENTATIONS.find(name)()
    assert augmentation.memory == {} and augmentation.probability({}) == p
  fixed = augment.AUGMENTATIONS.find("pipe")(p=0.25)
  assert fixed.memory == {}
  assert fixed.update(fixed.memory, 1.0, 64) == {}
  assert fixed.probability({}) == 0.25


def test_ada_rises_falls_and_stops():
  ada = augment.AUGMENTATIONS.find("ada")(
    target=0.6, adjust_images=1000, interval=2, max_p=0.25
  )
  update = jax.jit(ada.update)
  memory = ada.memory
  ps = []
  # Pairs: means .7, .65, .9, .6 (no move), .5, -1, -1.
  for r in (0.4, 1.0, 0.5, 0.8, 0.9, 0.9, 0.6, 0.6, 1, 0, -1, -1, -1, -1):
    memory = update(memory, jnp.float32(r), 50)
    ps.append(float(ada.probability(memory)))
  # An interval is 100 images: p moves by 100 / 1000.
  by_hand = [0, 0.1, 0.1, 0.2, 0.2, 0.25, 0.25, 0.25]
  by_hand += [0.25, 0.15, 0.15, 0.05, 0.05, 0.0]
  equal(ps, by_hand)


def test_ada_starts_where_it_is_told_and_means_over_images():
  ada = augment.AUGMENTATIONS.find("ada")(initial_p=0.5, interval=2)
  assert ada.probability(ada.memory) == 0.5
  memory = ada.update(ada.memory, 1.0, 100)
  memory = ada.update(memory, 0.0, 300)  # The mean is .25, not .5.
  equal(ada.probability(memory), 0.5 - 400 / 500_000, 1e-7)
  assert {k: float(v) for k, v in memory.items() if k != "p"} == {
    "overfitting": 0.0,
    "num_images": 0.0,
    "num_steps": 0.0,
  }


def test_ada_is_a_pipe():
  assert program("ada") == program("pipe") != program("pipe", **PIPE)
  assert program("ada", **PIPE) == program("pipe", **PIPE)
