import json

import numpy as np
import pytest

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import reconstruction, ssim


def pictures(side, num, seed=0):
  """Returns two uint8 `[num, side, side, 3]`, alike but for their noise."""
  rng = np.random.RandomState(seed)
  coarse = rng.randint(0, 256, (num, side // 4, side // 4, 3))
  smooth = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
  fine = rng.randint(0, 60, (2, num, side, side, 3))
  return [np.clip(smooth + x - 30, 0, 255).astype(np.uint8) for x in fine]


def values(real, fake):
  return metrics.get("reconstruction")(real, fake).values


def test_parity_with_scikit_image():
  """The means of what its version 0.26 gives for each of two pictures.

  structural_similarity(channel_axis=-1, gaussian_weights=True, sigma=1.5,
  use_sample_covariance=False, data_range=255) and peak_signal_noise_ratio.
  """
  found = values(*pictures(20, 2))
  golden = (0.8524895268857425 + 0.8269187078047427) / 2
  np.testing.assert_allclose(found["ssim"], golden, rtol=1e-12)
  golden = (20.87144238973019 + 20.248554078125327) / 2
  np.testing.assert_allclose(found["psnr"], golden, rtol=1e-12)


def test_psnr_and_mse_by_hand():
  """Off by 5, 10 and 20: 48.13 dB less 13.98, 20 and 26.02."""
  real = np.full((3, 12, 12, 1), 100, np.uint8)
  fake = real + np.array([5, 10, 20], np.uint8).reshape(3, 1, 1, 1)
  found = values(real, fake)
  assert found["mse"] == (25 + 100 + 400) / 3
  decibels = 20 * np.log10(255) - 20 * np.log10([5, 10, 20])
  np.testing.assert_allclose(found["psnr"], decibels.mean(), rtol=1e-12)
  # Flat images differ in luminance alone.
  c1, x, y = 2.55**2, 100, np.array([105, 110, 120])
  luminance = (2 * x * y + c1) / (x**2 + y**2 + c1)
  np.testing.assert_allclose(found["ssim"], luminance.mean(), rtol=1e-12)


@pytest.mark.parametrize("side", [11, 7, 3])
def test_one_window_by_hand(side):
  rng = np.random.RandomState(side)
  x, y = rng.randint(0, 256, (2, side, side)).astype(float)
  offsets = np.arange(side) - side // 2
  weights = np.exp(-(offsets**2) / (2 * (1.5 * side / 11) ** 2))
  weights = np.outer(weights, weights) / weights.sum() ** 2
  mean_x, mean_y = np.sum(weights * x), np.sum(weights * y)
  var_x = np.sum(weights * (x - mean_x) ** 2)
  var_y = np.sum(weights * (y - mean_y) ** 2)
  cov = np.sum(weights * (x - mean_x) * (y - mean_y))
  c1, c2 = 2.55**2, 7.65**2
  expected = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
  expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  pair = (a[None, ..., None].astype(np.uint8) for a in (x, y))
  record = metrics.get("reconstruction")(*pair)
  np.testing.assert_allclose(record.values["ssim"], expected, rtol=1e-9)
  assert record.protocol["window"] == side


@pytest.mark.parametrize(
  ("shape", "window"), [((40, 12), 11), ((10, 30), 9), ((8, 8), 7)]
)
def test_small_and_oblong_images_shrink_the_window(shape, window):
  images = np.random.RandomState(0).randint(0, 256, (2, 4, *shape, 1))
  real, fake = images.astype(np.uint8)
  record = metrics.get("reconstruction")(real, fake)
  assert record.protocol["window"] == window
  turned = values(np.swapaxes(real, 1, 2), np.swapaxes(fake, 1, 2))
  assert turned == pytest.approx(record.values, rel=1e-12)


def test_bytes_and_fractions_agree_but_for_the_unit():
  real, fake = pictures(16, 3)
  found, fractions = values(real, fake), values(real / 255, fake / 255)
  np.testing.assert_allclose(fractions["psnr"], found["psnr"], rtol=1e-12)
  np.testing.assert_allclose(fractions["ssim"], found["ssim"], rtol=1e-12)
  np.testing.assert_allclose(fractions["mse"] * 255**2, found["mse"])


def test_blocks_change_nothing(monkeypatch):
  real, fake = pictures(16, 5)
  found = values(real, fake)
  monkeypatch.setattr(reconstruction, "BLOCK", 2 * real[0].size)
  assert values(real, fake) == pytest.approx(found, rel=1e-12)


def test_more_noise_is_worse_and_pairs_are_in_order():
  real = pictures(16, 4)[0]
  rng = np.random.RandomState(1)
  found = []
  for width in (2, 10, 40):
    noise = rng.normal(0, width, real.shape)
    fake = np.clip(real + noise, 0, 255).astype(np.uint8)
    found.append(values(real, fake))
  for name, better in reconstruction.reconstruction.declaration.better.items():
    ordered = [v[name] for v in found]
    assert ordered == sorted(ordered, reverse=better == "higher")
  assert values(real, real[::-1])["psnr"] < found[-1]["psnr"]


def test_identical_pairs_are_flagged_and_their_infinite_psnr_is_spelled():
  real, fake = pictures(16, 4)
  fake[:3] = real[:3]
  record = metrics.get("reconstruction")(real, fake)
  assert record.values["psnr"] == np.inf
  assert np.isfinite([record.values["ssim"], record.values["mse"]]).all()
  assert record.flags == ("3 of 4 pairs identical",)
  text = json.dumps(record.to_dict(), allow_nan=False)
  assert json.loads(text)["values"]["psnr"] == "inf"
  same = values(real, real)
  assert (same["ssim"], same["mse"]) == (1, 0)
  assert metrics.get("reconstruction")(*pictures(16, 4)).flags == ()


@pytest.mark.parametrize(
  ("real", "fake", "text"),
  [
    ((5, 8, 8, 1), (4, 8, 8, 1), "5 real and 4 fake images"),
    ((5, 8, 8, 1), (5, 8, 8, 3), "must be images"),
    ((5, 2, 8, 1), (5, 2, 8, 1), "2x8 pixels .* at least 3"),
    ((0, 8, 8, 1), (0, 8, 8, 1), "0 real images are too few"),
  ],
)
def test_mistakes_are_one_line(real, fake, text):
  with pytest.raises(errors.UserError, match=text) as e:
    values(np.zeros(real, np.uint8), np.zeros(fake, np.uint8))
  assert "\n" not in str(e.value)


def test_opposite_structure_is_negative():
  x = np.random.RandomState(0).uniform(0.2, 0.8, (2, 1, 16, 16))
  whole, structure = ssim.similarity(x, 1 - x, 1.0, 11)
  assert (structure < -0.9).all() and (whole < -0.8).all()
