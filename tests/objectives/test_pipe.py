"""The transformations of ADA's pipe, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax.objectives import augment, pipe


def images_of(shape, seed=0):
  images = np.random.RandomState(seed).uniform(-1, 1, shape)
  return images.astype(np.float32)


def keys_of(n):
  return jax.random.split(jax.random.key(1), n)


@functools.cache
def jitted(**hyper):
  apply = jax.jit(augment.pipe(**hyper).apply)
  return lambda images, keys, p: np.asarray(apply(images, keys, p))


def equal(actual, desired, atol=1e-6):
  np.testing.assert_allclose(actual, desired, atol=atol)


# What u in U(-1, 1) and n in N(0, 1) make of an image.


resample = jax.jit(pipe.resample)
recolor = jax.jit(pipe.recolor)


def geometry(op, image, u=(0.0, 0.0), n=(0.0, 0.0)):
  sides = jnp.array(image.shape[1::-1], jnp.float32)
  matrix = pipe.GEOMETRY[op](jnp.array(u), jnp.array(n), sides)
  return resample(image, matrix)


def color(op, image, u=0.0, n=0.0):
  matrix = pipe.COLORS[op](jnp.array([u, 0]), jnp.array([n, 0]), None)
  return recolor(image, matrix)


@pytest.mark.parametrize("op", pipe.GEOMETRY)
def test_geometry_of_nothing_is_the_identity(op):
  image = images_of((9, 14, 3))
  np.testing.assert_array_equal(geometry(op, image), image)


def test_flips_and_turns():
  image = np.asarray(images_of((8, 8, 3)))
  equal(geometry("xflip", image, u=(0.5, 0.0)), image[:, ::-1])
  equal(geometry("xflip", image, u=(-0.5, 0.0)), image)
  for u, turns in (-0.9, 2), (-0.4, 3), (0.1, 0), (0.6, 1):
    out = geometry("rotate90", image, u=(u, 0.0))
    np.testing.assert_array_equal(out, np.rot90(image, turns))
  equal(geometry("rotate", image, u=(0.5, 0.0)), np.rot90(image), 1e-5)
  equal(geometry("rotate_again", image, u=(-1.0, 0.0)), image[::-1, ::-1], 1e-5)


def test_shifts_are_mirrored_at_the_border():
  image = np.asarray(images_of((8, 16, 1)))
  right_up = geometry("xint", image, u=(0.9, -0.9))  # 16/8 * .9, 8/8 * -.9
  by_hand = np.pad(image, ((0, 1), (2, 0), (0, 0)), "reflect")[1:, :16]
  np.testing.assert_array_equal(right_up, by_hand)
  # Half a pixel to the left: the mean of two neighbours.
  out = geometry("xfrac", image, n=(-0.25, 0.0))
  equal(out[:, :-1], (image[:, :-1] + image[:, 1:]) / 2)


def test_scales_zoom_about_the_centre():
  x = jnp.broadcast_to(jnp.arange(-4.0, 5.0)[None, :, None], (9, 9, 1))
  y = x.transpose(1, 0, 2)
  double = (5.0, 0.0)  # 2 ** (.2 * 5) = 2.
  half = (-5.0, 0.0)
  equal(geometry("scale", x, n=double), x / 2)
  equal(geometry("scale", x, n=half)[:, 2:7], 2 * x[:, 2:7])
  equal(geometry("aniso", x, n=double), x / 2)
  equal(geometry("aniso", y, n=double)[2:7], 2 * y[2:7])
  # Where the image ends, it comes back.
  equal(geometry("scale", x, n=half)[0, :2, 0], [0.0, -2.0])


def test_colors_by_hand():
  image = images_of((4, 5, 3))
  equal(color("brightness", image, n=1.5), image + 0.3)
  equal(color("contrast", image, n=-2.0), image / 2)
  gray = image.mean(-1, keepdims=True)
  equal(color("saturation", image, n=1.0), gray + 2 * (image - gray))
  equal(color("lumaflip", image, u=0.5), image - 2 * gray)
  equal(color("lumaflip", image, u=-0.5), image)
  # A third of a circle takes red to green, green to blue, blue to red.
  third = color("hue", image, u=2 / 3)
  equal(third, jnp.roll(image, 1, axis=-1))
  turned = color("hue", image, u=0.3)
  equal(turned.mean(-1), image.mean(-1))  # Luma stays,
  equal((turned**2).sum(-1), (image**2).sum(-1), 1e-5)  # and length.


def test_colors_of_gray_images():
  image = images_of((4, 5, 1))
  equal(color("brightness", image, n=1.5), image + 0.3)
  equal(color("contrast", image, n=2.0), 2 * image)
  equal(color("lumaflip", image, u=0.5), -image)
  equal(color("hue", image, u=0.4), image)
  equal(color("saturation", image, n=1.0), image)


def test_brightness_comes_before_contrast():
  """2 ** (c / 2) * (x + b): the order of the paper's list."""
  apply = jitted(policy=("contrast", "brightness"))
  images = jnp.stack([jnp.zeros((8, 8, 3)), jnp.ones((8, 8, 3))])
  key = jax.random.key(5)
  zero, one = apply(images, jnp.stack([key, key]), 1.0)[:, 0, 0, 0]
  c, b = jax.random.normal(jax.random.split(key)[1], (2, 2))[:, 0]
  assert abs(b) > 0.1 and abs(c) > 0.1
  equal(zero, 2 ** (0.5 * c) * 0.2 * b)
  equal(one, 2 ** (0.5 * c) * (1 + 0.2 * b))


def test_pipe_cutout():
  apply = jitted(policy=("cutout",))
  out = np.asarray(apply(jnp.ones((400, 8, 16, 1)), keys_of(400), 0.5))[..., 0]
  assert set(np.unique(out)) == {0.0, 1.0}
  holes = (out == 0).sum((1, 2))
  assert 160 < (holes > 0).sum() < 240  # 200 +- 4 standard deviations.
  assert (holes == 32).sum() > 20 and holes.max() == 32  # 4 rows, 8 columns.
  rows = (out == 0).any(2)
  columns = (out == 0).any(1)
  assert rows.any(0).all() and columns.any(0).all()
  assert rows.sum(1).max() == 4 and columns.sum(1).max() == 8


def test_one_of_two_rotations_with_p():
  images = jnp.broadcast_to(images_of((1, 8, 8, 1)), (1000, 8, 8, 1))
  apply = jitted(policy=("rotate", "rotate_again"))

  def changed(p):
    return (apply(images, keys_of(1000), p) != images).any((1, 2, 3))

  assert changed(1.0).all()
  assert abs(changed(0.36).mean() - 0.36) < 0.06  # 4 standard deviations.


def test_shares_of_a_flip_and_a_color():
  image = np.asarray(images_of((1, 8, 8, 1)))
  images = jnp.broadcast_to(image, (1000, 8, 8, 1))
  apply = jitted(policy=("xflip", "brightness"), color_strength=0.5)
  change = np.asarray(apply(images, keys_of(1000), 0.8)) - image
  flipped = np.ptp(change, (1, 2, 3)) > 1e-5
  brighter = abs(change.mean((1, 2, 3))) > 1e-5
  # Half of the flips flip nothing; 4 standard deviations.
  assert abs(flipped.mean() - 0.4) < 0.062
  assert abs(brighter.mean() - 0.4) < 0.062
  assert abs((flipped & brighter).mean() - 0.16) < 0.047
