import numpy as np
import pytest
from scipy.spatial import distance

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import prdc

NAMES = ("precision", "recall", "density", "coverage")


def scores(real, fake, **hyper):
  record = metrics.get("prdc", **hyper)(np.asarray(real), np.asarray(fake))
  return np.array([record.values[name] for name in NAMES])


def flags(real, fake, **hyper):
  return metrics.get("prdc", **hyper)(np.asarray(real), np.asarray(fake)).flags


def pair(num_real, num_fake, dims, seed):
  rng = np.random.RandomState(seed)
  real = rng.normal(size=(num_real, dims))
  return real, rng.normal(size=(num_fake, dims)) * 0.8 + 0.3


def by_definition(real, fake, k):
  """Returns the scores by float64 differences of all pairs, squared."""

  def radii(x):
    return np.sort(
      distance.cdist(x, x, "sqeuclidean") + np.diag([-1.0] * len(x))
    )[:, k]

  across = distance.cdist(real, fake, "sqeuclidean")
  in_real, in_fake = across < radii(real)[:, None], across < radii(fake)
  return [
    in_real.any(axis=0).mean(),
    in_fake.any(axis=1).mean(),
    in_real.sum(axis=0).mean() / k,
    in_real.any(axis=1).mean(),
  ]


# `prdc.compute_prdc(*pair(...), k)` of the package prdc 0.2, float64.
@pytest.mark.parametrize(
  "args, k, golden",
  [
    ((300, 200, 8, 0), 5, (0.99, 0.72333333333, 1.338, 0.86333333333)),
    ((150, 250, 64, 1), 5, (0.984, 0.08, 4.8296, 1.0)),
    (
      (130, 90, 1, 2),
      1,
      (0.78888888889, 0.63076923077, 1.08888888889, 0.40769230769),
    ),
  ],
)
def test_golden_numbers_of_the_published_code(args, k, golden):
  np.testing.assert_allclose(scores(*pair(*args), k=k), golden, atol=1e-6)


def test_by_hand():
  # Balls of the reals to their first neighbour: radii 1, 1, 3, of the fakes
  # 1.5, 1.5 and 7.
  real, fake = [[0.0], [1.0], [4.0]], [[0.5], [2.0], [9.0]]
  # Fake 0.5 lies in the balls of 0 and 1, fake 2 in that of 4; 2 is on the
  # border of that of 1. Reals 0 and 1 lie in the ball of 0.5, 1 in that of 2,
  # 4 in that of 9.
  np.testing.assert_allclose(scores(real, fake, k=1), [2 / 3, 1, 1, 1])


def test_duplicates_are_neighbours_and_the_border_is_outside():
  # The first neighbour of each 0 is the other, so that their balls have the
  # radius 0 and hold nothing, not even a copy; the second is 4 away.
  real = [[0.0], [0.0], [4.0], [5.0]]
  fake = [[0.0], [4.0], [9.0], [14.0]]
  # k = 1: radii 0 0 1 1, fakes' 4 4 5 5. Fake 4 lies in the ball of 4 but on
  # the border of that of 5.
  np.testing.assert_allclose(scores(real, fake, k=1), [1 / 4, 1, 1 / 4, 1 / 4])
  # k = 2: radii 4 4 4 5. Fake 0 lies in those of 0 and 0, on the borders of
  # 4 and 5; fake 4 in those of 4 and 5; 9 in that of 5.
  np.testing.assert_allclose(scores(real, fake, k=2), [3 / 4, 1, 5 / 8, 1])


@pytest.mark.parametrize("offset", [0.0, 0.3, 1e3])
def test_ties_are_ties(offset):
  # Of whole numbers most balls have others on their border.
  rng = np.random.RandomState(16)
  x = rng.randint(0, 4, (150, 8)).astype(float)
  y = rng.randint(0, 5, (120, 8)).astype(float)
  np.testing.assert_allclose(
    scores(x + np.float32(offset), y + np.float32(offset)),
    by_definition(x, y, 5),
    atol=1e-12,
  )


def test_identical_sets_score_1():
  x, _ = pair(300, 1, 64, 4)
  for fake in (x, x[::-1], np.roll(x, 7, axis=0)):
    np.testing.assert_array_equal(scores(x, fake.copy()), 1)


def test_disjoint_sets_score_0():
  x, y = pair(80, 60, 8, 5)
  np.testing.assert_array_equal(scores(x, y + 100), 0)


def test_swapping_the_sets_swaps_precision_and_recall():
  x, y = pair(90, 120, 8, 6)
  one, other = scores(x, y), scores(y, x)
  assert one[0] != one[1]
  np.testing.assert_array_equal(one[:2], other[1::-1])


def test_where_the_scores_differ():
  rng = np.random.RandomState(7)
  # Fakes of one of two modes are precise, but half of the data is missing.
  real = rng.normal(size=(320, 8)) + 50 * (np.arange(320) % 2)[:, None]
  fake = rng.normal(size=(320, 8))
  precision, recall, density, coverage = scores(real, fake)
  assert precision > 0.9 and density > 0.9
  assert 0.4 < recall <= 0.5 and 0.4 < coverage <= 0.5
  # Few outliers among the reals have large balls, which make far fakes
  # precise; the density counts how few there are.
  outliers = np.concatenate([real[8:], rng.uniform(-100, 100, (8, 8))])
  far = rng.uniform(-60, 0, (320, 8))
  precision, _, density, coverage = scores(outliers, far)
  assert precision > 0.9 and density < 0.8 * precision and coverage < 0.03


@pytest.mark.parametrize("rows", [1, 7, 61])
def test_the_size_of_a_block_does_not_matter(rows, monkeypatch):
  x, y = pair(61, 62, 8, 8)
  whole = scores(x, y)
  monkeypatch.setattr(prdc, "BLOCK", rows * 62)
  np.testing.assert_array_equal(scores(x, y), whole)


def test_blocks_of_many_samples(monkeypatch):
  monkeypatch.setattr(prdc, "BLOCK", 2**20)
  x, y = pair(1100, 1094, 3, 9)
  np.testing.assert_allclose(scores(x, y), by_definition(x, y, 5), atol=1e-12)


def test_neither_place_nor_scale_matters():
  x, y = pair(100, 80, 8, 10)
  expected = scores(x, y)
  np.testing.assert_array_equal(scores(x + 1e7, y + 1e7), expected)
  for scale in (1e-200, 1e200):
    np.testing.assert_array_equal(scores(x * scale, y * scale), expected)


@pytest.mark.parametrize("noise", [1e-3, 4e-5])
def test_small_distances_far_from_the_mean_are_not_lost(noise):
  # The squared distances of neighbours are down to 1e-9 of the squared norms:
  # products in float32 would not tell them from 0.
  rng = np.random.RandomState(11)
  centres = rng.normal(size=(8, 8))

  def draw(num):
    shifts = noise * rng.normal(size=(num, 8))
    return centres[rng.randint(8, size=num)] + shifts

  x, y = draw(300), draw(200)
  np.testing.assert_allclose(scores(x, y), by_definition(x, y, 5), atol=1e-12)
  assert flags(x, y) == ()


def test_radii_at_the_resolution_are_flagged():
  rng = np.random.RandomState(12)
  centres = np.sign(rng.normal(size=(60, 1))) * rng.uniform(0.5, 1, 8)
  x = centres + 1e-7 * rng.normal(size=(60, 8))
  assert flags(x, x) == ("float64 resolution",)
  assert flags(centres, x) == ("constant", "float64 resolution")
  x = centres + 1e-5 * rng.normal(size=(60, 8))
  assert flags(x, x) == ()


def test_a_ring_seen_twice_has_the_density_1():
  # Each ball has k fakes inside, and one more on its border.
  angles = 2 * np.pi * np.arange(40) / 40
  ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
  for fake in (ring, ring[::-1], np.roll(ring, 7, axis=0)):
    np.testing.assert_array_equal(scores(ring, fake, k=5), 1)


def test_constant_samples_are_flagged():
  x, _ = pair(40, 1, 8, 13)
  collapsed = np.repeat(x[:1] / 3, 30, axis=0)
  assert flags(x, collapsed) == ("constant",)
  precision, recall, density, coverage = scores(x, collapsed)
  assert recall == 0 and precision in (0, 1)
  assert 0 <= coverage < 1 and density >= precision / 5
  assert flags(collapsed, x) == ("constant",)
  same = np.zeros((10, 8))
  assert flags(same, same) == ("constant",)
  np.testing.assert_array_equal(scores(same, same), 0)
  # With five copies beside it, not with four, a sample has no ball at k = 5.
  assert flags(np.repeat(x, 6, axis=0), x) == ("constant",)
  assert flags(np.repeat(x, 5, axis=0), x) == ()


def test_protocol():
  record = metrics.get("prdc")(*pair(30, 20, 8, 14))
  assert record.protocol == {
    "num_real": 30,
    "num_fake": 20,
    "dims": 8,
    "k": 5,
  }
  assert record.flags == () and tuple(record.values) == NAMES


def test_user_errors():
  x = np.random.RandomState(15).normal(size=(6, 8))
  with pytest.raises(errors.UserError, match="k is 0"):
    scores(x, x, k=0)
  with pytest.raises(errors.UserError, match="5 fake samples are too few.* 6"):
    scores(x, x[:5])
  assert np.isfinite(scores(x, x[:6])).all()
  bad = x[:5].copy()
  bad[2, 1] = np.nan
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite") as e:
    scores(x[:5], bad, k=4)
  assert "\n" not in str(e.value)
