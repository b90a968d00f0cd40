import numpy as np
import pytest

from ganjax import errors
from ganjax.data import digits
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import diversity, pairwise_distance, ssim


def pictures(side, seed=0):
  """Returns uint8 `[2, side, side, 3]`, alike but for their noise."""
  rng = np.random.RandomState(seed)
  coarse = rng.randint(0, 256, (1, side // 4, side // 4, 3))
  smooth = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)
  fine = rng.randint(0, 60, (2, 1, side, side, 3))
  return np.concatenate(
    [np.clip(smooth + x - 30, 0, 255).astype(np.uint8) for x in fine]
  )


def record(real, fake, name="diversity", **hyper):
  return metrics.get(name, **hyper)(real, fake)


def ms_ssim(pair):
  """Returns that of two images; there is only one pair to draw."""
  return record(pair, pair, num_pairs=3).values["ms_ssim"]


def flat(side, *greys):
  images = np.ones((len(greys), side, side, 1), np.uint8)
  return images * np.array(greys, np.uint8).reshape(-1, 1, 1, 1)


def test_parity_with_pytorch_msssim_at_five_scales():
  """Its version 1.0.0, ms_ssim(data_range=255, win=a float64 window)."""
  pair = pictures(176)
  np.testing.assert_allclose(ms_ssim(pair), 0.9878916619914525, rtol=1e-12)
  protocol = record(pair, pair, num_pairs=1).protocol
  assert (protocol["scales"], protocol["window"]) == (5, 11)


@pytest.mark.parametrize(
  ("side", "scales", "window"),
  [(6, 2, 3), (8, 2, 3), (16, 2, 7), (28, 2, 11), (32, 2, 11), (64, 3, 11)]
  + [(175, 4, 11), (400, 5, 11)],
)
def test_small_images_have_fewer_scales_and_the_same_weight(
  side, scales, window
):
  """Flat images differ in the luminance of the coarsest scale alone."""
  pair = flat(side, 100, 150)
  found = record(pair, pair, num_pairs=1)
  assert found.protocol["scales"] == scales
  assert found.protocol["window"] == window
  weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales]
  luminance = (2 * 100 * 150 + 2.55**2) / (100**2 + 150**2 + 2.55**2)
  expected = luminance ** (1.0001 * weights[-1] / sum(weights))
  np.testing.assert_allclose(found.values["ms_ssim"], expected, rtol=1e-9)


def test_each_scale_is_the_mean_of_2x2_pixels():
  x = np.arange(16.0).reshape(1, 1, 4, 4)
  expected = [[[[2.5, 4.5], [10.5, 12.5]]]]
  assert ssim._half(x).tolist() == expected
  assert ssim._half(x[..., :3])[0, 0].tolist() == [[2.5, 4], [10.5, 12]]


def test_opposite_structure_counts_as_0():
  x = np.random.RandomState(0).randint(0, 256, (1, 32, 32, 1)).astype(np.uint8)
  assert ms_ssim(np.concatenate([x, 255 - x])) == 0


def test_bytes_and_fractions_agree():
  pair = pictures(32)
  np.testing.assert_allclose(ms_ssim(pair / 255), ms_ssim(pair), rtol=1e-12)


def test_blocks_change_nothing(monkeypatch):
  images = digits.load("test").images
  found = record(images, images[:50], num_pairs=20).values
  monkeypatch.setattr(diversity, "BLOCK", 7 * images[0].size)
  again = record(images, images[:50], num_pairs=20).values
  assert again == pytest.approx(found, rel=1e-12)


def test_digits_of_one_class_are_more_alike_than_those_of_ten():
  split = digits.load("test")
  one = split.images[split.labels == 0]
  found = record(split.images, one, num_pairs=300)
  assert found.values["ms_ssim"] > 1.5 * found.values["ms_ssim_real"] > 0
  assert found.flags == () and found.protocol["num_pairs"] == 300
  noise = np.random.RandomState(0).randint(0, 256, one.shape).astype(np.uint8)
  assert record(one, noise, num_pairs=300).values["ms_ssim"] < 0.1


def test_a_collapsed_generator_is_constant():
  real = digits.load("test").images
  collapsed = np.repeat(real[3:4], 40, axis=0)
  found = record(real, collapsed, num_pairs=30)
  assert found.values["ms_ssim"] == 1 and found.flags == ("constant",)
  assert 0 < found.values["ms_ssim_real"] < 1
  collapsed[7, 3, 3] ^= 1
  assert record(real, collapsed, num_pairs=30).flags == ()


@pytest.mark.parametrize(
  ("shape", "num", "hyper", "text"),
  [
    ((8, 8, 1), 1, {}, "1 fake images are too few"),
    ((5, 9, 1), 4, {}, "5x9 pixels .* at least 6"),
    ((8, 8, 1), 4, dict(num_pairs=0), "num_pairs is 0"),
  ],
)
def test_what_has_no_diversity_is_an_error_of_one_line(shape, num, hyper, text):
  with pytest.raises(errors.UserError, match=text) as e:
    record(
      np.zeros((4, *shape), np.uint8),
      np.zeros((num, *shape), np.uint8),
      **hyper,
    )
  assert "\n" not in str(e.value)


# Distances of pairs.


def distances(real, fake, **hyper):
  return record(real, fake, "pairwise_distance", **hyper)


def test_pairs_are_of_two_and_all_alike():
  first, second = pairwise_distance.pairs(4, 12_000)
  counts = np.bincount(4 * first + second, minlength=16).reshape(4, 4)
  assert not counts.diagonal().any()
  # 1000 each, with a deviation of 30.
  np.testing.assert_allclose(counts[~np.eye(4, dtype=bool)], 1000, atol=120)
  again = pairwise_distance.pairs(4, 12_000)
  np.testing.assert_array_equal(again, (first, second))


def test_pairwise_distance_by_hand():
  """Of two points every pair is the same: 5 against 2 apart."""
  real, fake = np.array([[1.0, 1], [1, 3]]), np.array([[0.0, 0], [3, 4]])
  found = distances(real, fake, num_pairs=7)
  assert found.values == {
    "pairwise_distance": 5,
    "pairwise_distance_real": 2,
    "pairwise_ratio": 2.5,
  }
  assert found.protocol == {"num_real": 2, "num_fake": 2, "num_pairs": 7}
  assert found.flags == ()


def test_pairwise_distance_of_gaussians(monkeypatch):
  """|x - y| has the mean 2 sigma / sqrt(pi) on the line."""
  rng = np.random.RandomState(0)
  real, fake = rng.normal(0, 2, (5000, 1)), rng.normal(7, 3, (4000, 1))
  found = distances(real, fake)
  np.testing.assert_allclose(
    found.values["pairwise_distance"], 6 / np.sqrt(np.pi), rtol=0.03
  )
  np.testing.assert_allclose(found.values["pairwise_ratio"], 1.5, rtol=0.05)
  monkeypatch.setattr(pairwise_distance, "BLOCK", 777)
  assert distances(real, fake).values == pytest.approx(found.values, rel=1e-12)


def test_collapse_is_0_and_collapsed_reals_are_an_error():
  x = np.random.RandomState(0).normal(size=(20, 3))
  same = np.repeat(x[:1], 10, axis=0)
  found = distances(x, same)
  assert found.values["pairwise_ratio"] == 0 and found.flags == ("constant",)
  for real, fake, hyper, text in (
    (same, x, {}, "real samples are all the same"),
    (x, x[:1], {}, "1 fake samples are too few"),
    (x, x, dict(num_pairs=0), "num_pairs is 0"),
  ):
    with pytest.raises(errors.UserError, match=text) as e:
      distances(real, fake, **hyper)
    assert "\n" not in str(e.value)
