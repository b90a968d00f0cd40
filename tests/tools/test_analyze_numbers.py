"""The numbers behind the pictures of a run: by hand, by laws."""

import math

import numpy as np
import pytest
from scipy.spatial import distance

from ganjax import errors
from ganjax.tools.analyze import (
  classes,
  discriminator,
  embedding,
  interpolation,
  neighbours,
  pages,
  spectrum,
  truncation,
)


def images(n, seed=0, shape=(16, 16, 3)):
  return np.random.RandomState(seed).randint(0, 256, (n, *shape), np.uint8)


# Neighbours.


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_nearest_neighbours_are_those_of_all_pairs(block):
  rng = np.random.RandomState(0)
  queries, points = rng.normal(size=(7, 300)), rng.normal(size=(50, 300))
  queries[3] = points[41]
  far, index = neighbours.nearest(queries, points, block)
  every = distance.cdist(queries, points)
  np.testing.assert_array_equal(index, every.argmin(axis=1))
  np.testing.assert_allclose(far, every.min(axis=1), rtol=1e-12)
  assert far[3] == 0 and index[3] == 41


def test_pixels_are_compared_in_units_of_white():
  points = np.array([[[[0]]], [[[255]]], [[[51]]], [[[51]]]], np.uint8)
  far, index = neighbours.nearest(np.array([[0.5], [0.1]]), points, 2)
  np.testing.assert_allclose(far, [0.3, 0.1], rtol=1e-12)
  assert index.tolist() == [2, 0]  # Of two that are equally near, the first.


def test_a_copying_generator_is_seen():
  held_out = np.arange(1.0, 202.0)
  assert neighbours.compare(np.full(9, 50.5), held_out) == {
    "samples": 50.5,
    "held_out": 101.0,
    "ratio": 0.5,
    "suspicious": 0.0,
  }
  copies = neighbours.compare(np.array([0.0, 0, 0, 99]), held_out)
  assert copies["ratio"] == 0 and copies["suspicious"] == 0.75
  same = neighbours.compare(held_out, held_out)
  assert same["ratio"] == 1 and same["suspicious"] == pytest.approx(0.01, 0.1)
  assert neighbours.compare(np.ones(3), np.zeros(3))["ratio"] == math.inf


# Interpolation.


def test_paths_end_exactly_where_they_should():
  a, b = np.random.RandomState(0).normal(size=(2, 5, 3, 8))
  for way in interpolation.lerp, interpolation.slerp:
    path = way(a, b, np.linspace(0, 1, 10))
    assert path.shape == (5, 3, 10, 8)
    np.testing.assert_array_equal(path[..., 0, :], a)
    np.testing.assert_array_equal(path[..., -1, :], b)


def test_paths_by_hand():
  a, b, t = np.array([2.0, 0]), np.array([0, 2.0]), np.array([1 / 3, 0.5])
  straight = interpolation.lerp(a, b, t)
  np.testing.assert_allclose(straight, [[4 / 3, 2 / 3], [1, 1]], rtol=1e-14)
  bent = interpolation.slerp(a, b, t)
  root = [math.sqrt(3), 1], [math.sqrt(2), math.sqrt(2)]
  np.testing.assert_allclose(bent, root, rtol=1e-14)
  # The angle has no length: unequal ends keep their own.
  bent = interpolation.slerp(a, 3 * b, t[1:])
  np.testing.assert_allclose(bent, [[math.sqrt(2), 3 * math.sqrt(2)]])


def test_spherical_paths_keep_the_norm_of_normal_latents():
  ends = np.random.RandomState(0).normal(size=(2, 200, 100))
  t = np.linspace(0, 1, 11)
  unit = ends / np.linalg.norm(ends, axis=-1, keepdims=True)
  norms = np.linalg.norm(interpolation.slerp(unit[0], unit[1], t), axis=-1)
  np.testing.assert_allclose(norms, 1, rtol=1e-12)
  norms = np.linalg.norm(
    interpolation.slerp(ends[0], ends[1], t), axis=-1
  ).mean(axis=0)
  np.testing.assert_allclose(norms, 10, rtol=0.02)
  straight = interpolation.lerp(ends[0], ends[1], t)
  middle = np.linalg.norm(straight[:, 5], axis=-1).mean()
  assert middle == pytest.approx(10 / math.sqrt(2), rel=0.02)


def test_spherical_paths_without_a_circle():
  a = np.array([[1.0, 2.0], [2.0, 0.0]])
  t = np.linspace(0, 1, 5)
  for factor in (1, 1 + 1e-9, 3):
    np.testing.assert_allclose(
      interpolation.slerp(a, factor * a, t),
      interpolation.lerp(a, factor * a, t),
    )
  for b, message in ((-a, "opposite ends"), (0 * a, "other than 0")):
    with pytest.raises(errors.UserError, match=message):
      interpolation.slerp(a, b, t)


def test_jumps_and_norms_of_paths_by_hand():
  z = np.array([[[2.0, 0], [1, 1], [0, 2]]])
  places = np.array([[[0.0], [1.0], [4.0]]])
  found = interpolation.measure(z, places)
  assert found["middle_norm"] == pytest.approx(math.sqrt(0.5))
  assert found["largest_step"] == 0.75
  still = interpolation.measure(np.repeat(z, 2, axis=1), np.zeros((1, 6, 1)))
  assert still["largest_step"] == 0  # Nothing moves, nothing jumps.
  # Of an even number of points the middle is between two.
  assert still["middle_norm"] == pytest.approx(math.sqrt(0.5))


# Spectrum.


def test_white_noise_is_flat():
  noise = images(400, shape=(16, 16, 1))
  frequencies, power = spectrum.spectrum(noise)
  assert frequencies[0] == 1 / 16 and frequencies[-1] == 11 / 16
  variance = (256**2 - 1) / 12 / 255**2
  np.testing.assert_allclose(power.mean(axis=0), variance, rtol=0.08)
  grey = spectrum.spectrum(np.repeat(noise, 3, axis=3))[1]
  np.testing.assert_allclose(grey, power, rtol=1e-9)


@pytest.mark.parametrize("cycles", [1, 3, 8])
def test_a_wave_is_one_peak(cycles):
  x = np.cos(2 * np.pi * cycles * np.arange(16) / 16)
  wave = np.rint(127.5 + 127.5 * x).astype(np.uint8)[None, :, None, None]
  wave = wave * np.ones((1, 1, 16, 1), np.uint8)
  for image in (wave, wave.swapaxes(1, 2)):
    frequencies, power = spectrum.spectrum(image)
    peak = power[0].argmax()
    assert frequencies[peak] == cycles / 16
    assert power[0, peak] > 0.999 * power[0].sum()


def test_a_checkerboard_is_in_the_corner():
  board = np.indices((1, 8, 8, 1)).sum(axis=0) % 2 * 255
  frequencies, power = spectrum.spectrum(board)
  assert frequencies[power[0].argmax()] == 0.75  # sqrt(1/2), in eighths.
  # The only frequency of its ring holds |64 halves|^2 / 64.
  assert power[0].max() == pytest.approx(16)


def test_spectrum_of_oblong_images_and_of_one_colour():
  frequencies, power = spectrum.spectrum(images(3, shape=(8, 32, 3)))
  assert power.shape == (3, len(frequencies))
  assert frequencies[0] == 1 / 8 and frequencies[-1] <= 0.75
  flat_ones = np.full((2, 8, 8, 3), 9, np.uint8)
  assert not spectrum.spectrum(flat_ones)[1].any()


def test_power_of_bands_by_hand():
  frequencies = np.array([0.125, 0.25, 0.375, 0.5, 0.625])
  power = np.array([[1.0, 2, 3, 5, 7], [1, 2, 5, 7, 9]])
  assert spectrum.band_power(frequencies, power, 0.25, 0.5) == 5
  kinds = {
    "train": (frequencies, power),
    "test": (frequencies, 2 * power),
    "fake": (frequencies, power * [1, 1, 0, 0, 3]),
  }
  found = spectrum.compare(kinds)
  assert set(found["test"].values()) == {2}
  assert found["fake"] == {"rest": 1, "highest_octave": 0, "corners": 3}
  kinds["train"] = (frequencies, 0 * power)
  with pytest.raises(errors.UserError, match="only one colour"):
    spectrum.compare(kinds)


# The discriminator.


@pytest.mark.parametrize(
  "test, ratio", [(3.0, 0.0), (2.0, 0.25), (-1.0, 1.0), (-2.0, 1.25)]
)
def test_overfitting_by_hand(test, ratio):
  logits = [2.0, 4.0], [test] * 3, [-1.0, -1.0]
  found = discriminator.compare(*map(np.array, logits))
  assert found["means"] == {"train": 3.0, "test": test, "fake": -1.0}
  assert found["overfitting"] == ratio
  # d ratio / d train mean is (1 - ratio) / 4, and that mean's variance 1 / 2.
  error = abs(1 - ratio) / 4 * math.sqrt(0.5)
  assert found["overfitting_std"] == pytest.approx(error)
  assert not found["flags"]


def test_the_error_of_the_overfitting_is_what_it_varies_by():
  rng = np.random.RandomState(0)
  found = [
    discriminator.compare(
      rng.normal(2, 1, 60), rng.normal(1.5, 2, 40), rng.normal(0, 1, 50)
    )
    for _ in range(1000)
  ]
  ratios = [x["overfitting"] for x in found]
  assert np.mean(ratios) == pytest.approx(0.25, abs=0.02)
  errors_ = [x["overfitting_std"] for x in found]
  assert np.mean(errors_) == pytest.approx(np.std(ratios), rel=0.1)


def test_a_discriminator_at_a_loss_is_flagged():
  same = discriminator.compare(np.ones(5), np.ones(5), np.ones(5))
  assert math.isnan(same["overfitting"]) and same["flags"]
  wrong = discriminator.compare(np.zeros(5), np.ones(5), np.ones(5))
  assert wrong["flags"]
  few = np.array([0.0, 1.0])
  assert discriminator.compare(few + 0.5, few, few)["flags"]
  many = np.tile(few, 50)
  assert not discriminator.compare(many + 0.5, many, many)["flags"]


# Classes.


def test_rows_of_classes_go_evenly_from_the_surest():
  labels = np.array([0, 2, 2, 0, 2, 2, 2])
  sure = np.array([0.1, 0.2, 0.9, 0.8, 0.5, 0.4, 0.3])
  rows = classes.arrange(labels, sure, 3, 3)
  assert [row.tolist() for row in rows] == [[3, 0], [], [2, 5, 1]]
  asked = classes.arrange(labels, np.zeros(7), 3, 2)
  assert [row.tolist() for row in asked] == [[0, 3], [], [1, 6]]


def test_confidence_by_hand():
  logits = np.array([[0, math.log(3)], [1e4, 0], [5, 5]])
  np.testing.assert_allclose(classes.confidence(logits), [0.75, 1, 0.5])


def test_pages_of_classes_by_hand():
  logits = np.log([[3.0, 1, 1e-9], [1, 1e-9, 1e-9], [1, 3, 1e-9], [5, 3, 1e-9]])
  page = classes.recognised(logits)
  assert page.numbers["shares"] == [0.75, 0.25, 0.0]
  means = [(0.75 + 1 + 0.625) / 3, 0.75, 0]
  np.testing.assert_allclose(page.numbers["confidence_by_class"], means)
  assert page.numbers["confidence"] == pytest.approx(3.125 / 4)
  assert page.notes == ["75.0 %, 0.79", "25.0 %, 0.75", "none"]
  assert [row.tolist() for row in page.rows] == [[1, 0, 3], [2], []]
  asked = classes.asked_for(np.array([0, 1, 1, 0]), logits, 2)
  assert asked.numbers == {}  # Its classes are not those asked for.
  asked = classes.asked_for(np.array([0, 1, 1, 0]), logits[:, :2], 2)
  assert asked.numbers == {"recognised": 0.75, "by_class": [1.0, 0.5]}


# Truncation, embedding.


def test_mean_distance_by_hand():
  triangle = np.array([[0.0, 0], [3, 0], [0, 4]])
  assert truncation.mean_distance(triangle) == 4


def test_principal_axes_by_hand():
  x, y = np.random.RandomState(0).normal(size=(2, 500))
  x, y = (v - v.mean() for v in (x, y))
  y -= x * (x @ y) / (x @ x)  # Uncorrelated, so the axes are known exactly.
  scale = 3 * np.sqrt((y @ y) / (x @ x))
  real = np.stack([y * 0, 1 - scale * x, y, 5 + 0 * y], axis=1)
  mean, axes, share = embedding.principal(real)
  np.testing.assert_allclose(mean, [0, 1, 0, 5], atol=1e-12)
  expected = [[0, 1, 0, 0], [0, 0, 1, 0]]
  np.testing.assert_allclose(axes.T, expected, atol=1e-9)
  assert share == pytest.approx(1)
  third = np.concatenate([real, real])
  third[:, 3] += np.repeat([1, -1], 500) * np.std(y)
  assert embedding.principal(third)[2] == pytest.approx(10 / 11)
  assert embedding.principal(np.ones((5, 3)))[2] == 0


def test_principal_axes_do_not_point_by_chance():
  for real in np.random.RandomState(0).normal(size=(8, 20, 6)):
    _, axes, share = embedding.principal(real)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    largest = np.abs(axes).argmax(axis=0)
    assert (axes[largest, [0, 1]] > 0).all() and 0.3 < share < 1


def test_shares_of_classes_by_hand():
  logits = np.array([[1, 0, 0], [0, 0, 3], [2, 0, 1], [0, 0, 1.0]])
  np.testing.assert_array_equal(embedding.shares(logits), [0.5, 0, 0.5])


def test_neighboured_clusters_stay_apart():
  rng = np.random.RandomState(0)
  near, far = rng.normal(size=(30, 5)), 50 + rng.normal(size=(25, 5))
  a, b = embedding.neighboured([near, far], 0)
  assert a.shape == (30, 2) and b.shape == (25, 2)
  own = distance.cdist(a, a) + 1e9 * np.eye(30)
  assert (own.min(axis=1) < distance.cdist(a, b).min(axis=1)).all()


# Pages.


def test_large_images_are_reduced_by_their_means():
  image = np.zeros((1, 130, 128, 1), np.uint8)
  image[0, 2:4, :2] = [[[0], [10]], [[20], [31]]]
  small = pages.reduced(image)
  assert small.shape == (1, 65, 64, 1) and small[0, 1, 0] == 15
  assert not small[0, 0].any()
  np.testing.assert_array_equal(pages.reduced(small), small)
