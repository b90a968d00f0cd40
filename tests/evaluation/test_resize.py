import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ganjax import errors
from ganjax.evaluation.extractors import resize

RESIZE = jax.jit(resize.resize, static_argnames=("size", "mode"))


def noise(height, width, channels=1):
  shape = (1, height, width, channels)
  return np.random.RandomState(height).randint(0, 256, shape).astype(np.uint8)


def resized(images, size, mode):
  out = np.asarray(RESIZE(images, size, mode))
  assert out.dtype == np.float32
  assert out.shape == (len(images), size, size, images.shape[-1])
  return out


# noise(3, 5) to 7 and noise(9, 11) to 4 pixels. By torch-fidelity 0.4.0,
# interpolate_bilinear_2d_like_tensorflow1x:
TF1 = """
106.     138.8571 193.5714 232.1429 147.8571 161.2857 184.
146.2857 103.8367 114.4694 155.8571 178.7143 174.6326 168.1429
186.5714  68.8163  35.3673  79.5714 209.5714 187.9796 152.2857
200.5714  79.1429  54.3878 106.551  208.5918 180.6735 144.4286
201.4286 112.1429 122.4694 185.1633 191.6939 163.0408 140.5714
202.     134.1429 167.8571 237.5714 180.4286 151.2857 138.
202.     134.1429 167.8571 237.5714 180.4286 151.2857 138.

126.     215.25   153.5    110.
126.     191.0625 183.875  115.125
195.5    211.25   121.25   148.
244.25   154.5625 175.875  147.875
"""
# By torch 2.13.0, interpolate(mode="bilinear", antialias=False):
TORCH = """
106.     132.2857 179.7143 249.     164.7143 153.7143 184.
119.4286 125.6327 154.898  216.4286 167.8571 161.4082 178.7143
159.7143 105.6735  80.449  118.7143 177.2857 184.4898 162.8571
200.      85.7143   6.      21.     186.7143 207.5714 147.
200.8571 112.2857  66.6735 118.7143 188.9184 185.3469 143.1429
201.7143 138.8571 127.347  216.4286 191.1225 163.1225 139.2857
202.     147.7143 147.5714 249.     191.8571 155.7143 138.

 82.4219 229.8438 146.9531 160.4062
 44.875  196.4844 199.8438 155.9375
189.2188 232.875   62.7969  57.2812
115.1562 116.875  188.8438  93.3906
"""


@pytest.mark.parametrize("mode, golden", [("tf1", TF1), ("torch", TORCH)])
def test_bilinear_is_that_of_torch_fidelity_and_of_torch(mode, golden):
  up, down = golden.strip().split("\n\n")
  for text, images, size in ((up, noise(3, 5), 7), (down, noise(9, 11), 4)):
    expected = np.array(text.split(), float).reshape(size, size)
    actual = resized(images, size, mode)[0, :, :, 0]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_tf1_by_hand():
  # Two pixels to four: 0, 1/2, 1, and 3/2 beyond the last, which is repeated.
  row = np.array([10.0, 30.0]).reshape(1, 1, 2, 1)
  out = resized(row, 4, "tf1")[0, 0, :, 0]
  np.testing.assert_allclose(out, [10, 20, 30, 30])
  # Four pixels to two: every second, and nothing of the others.
  row = np.array([1.0, 99, 5, 99]).reshape(1, 1, 4, 1)
  np.testing.assert_allclose(resized(row, 2, "tf1")[0, 0, :, 0], [1, 5])


SIZES = [(32, 32, 75), (28, 20, 224), (61, 90, 31), (90, 61, 31), (1, 1, 5)]


@pytest.mark.parametrize("height, width, size", SIZES)
def test_clean_is_pillow_on_floats(height, width, size):
  images = noise(height, width, 3)
  channels = [
    Image.fromarray(images[0, :, :, c].astype(np.float32)) for c in range(3)
  ]
  channels = [np.asarray(x.resize((size, size), 3)) for x in channels]
  expected = np.clip(np.stack(channels, -1), 0, 255)
  actual = resized(images, size, "clean")[0]
  np.testing.assert_allclose(actual, expected, atol=2e-3)


@pytest.mark.parametrize("height, width, size", SIZES)
def test_pil_is_pillow_on_uint8_rows_first(height, width, size):
  images = noise(height, width, 3)
  rows = Image.fromarray(images[0]).resize((size, height), 3)
  expected = np.asarray(rows.resize((size, size), 3)).astype(float)
  actual = resized(images, size, "pil")[0]
  # Pillow has weights of 22 bits: a number near a half may go either way.
  assert np.abs(actual - expected).max() <= 1
  assert np.mean(actual != expected) < 1e-3


@pytest.mark.parametrize("mode", sorted(resize.MODES))
def test_every_mode_keeps_size_constants_and_range(mode):
  images = noise(12, 12, 3)
  np.testing.assert_array_equal(resized(images, 12, mode), images)
  flat = np.full((2, 9, 14, 1), 77, np.uint8)
  for size in (5, 30):
    np.testing.assert_allclose(resized(flat, size, mode), 77, atol=1e-4)
  extreme = (noise(20, 16) > 127) * np.uint8(255)
  for size in (7, 45):
    out = resized(extreme, size, mode)
    assert out.min() >= 0 and out.max() <= 255


def test_an_unknown_mode_is_named_beside_the_known_ones():
  with pytest.raises(errors.UserError, match="'cleen'; did you mean 'clean'"):
    resize.resize(jnp.zeros((1, 2, 2, 1)), 4, "cleen")


def test_grey_becomes_rgb_and_anything_else_is_refused():
  grey = noise(4, 5)
  np.testing.assert_array_equal(
    resize.rgb(grey, "x"), np.concatenate([grey] * 3, -1)
  )
  colour = noise(4, 5, 3)
  np.testing.assert_array_equal(resize.rgb(colour, "x"), colour)
  for other in (noise(4, 5, 2), grey[0], grey / 255, np.zeros((4, 2))):
    with pytest.raises(errors.UserError, match="^x sees uint8 images"):
      resize.rgb(other, "x")
