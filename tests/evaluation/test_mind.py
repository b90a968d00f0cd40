import numpy as np
import pytest
import scipy.optimize

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import mind as module


def mind(real, fake, **hyper):
  return metrics.get("mind", **hyper)(real, fake).values["mind"]


def normal(num, dims, seed=0):
  return np.random.RandomState(seed).normal(size=(num, dims))


def by_assignment(x, y):
  """Returns the squared 2-Wasserstein distance of points on a line."""
  cost = (x[:, None] - y[None, :]) ** 2
  return cost[scipy.optimize.linear_sum_assignment(cost)].mean()


def test_on_a_line_by_hand():
  # 0 goes to 1 and 3 to 5: (1 + 4) / 2, and 3 d = 3. Both directions agree.
  real, fake = np.array([[3.0], [0.0]]), np.array([[1.0], [5.0]])
  np.testing.assert_allclose(mind(real, fake), 7.5, rtol=1e-12)


def test_sorting_finds_the_optimal_pairs():
  x, y, directions = normal(15, 3), normal(15, 3, 1) * 2 + 1, normal(5, 3, 2)
  expected = np.mean([by_assignment(x @ u, y @ u) for u in directions])
  value = module.sliced_wasserstein(x, y, directions)
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_every_direction_counts_once(monkeypatch):
  x, y, directions = normal(9, 3), normal(9, 3, 1), normal(10, 3, 2)
  whole = module.sliced_wasserstein(x, y, directions)
  monkeypatch.setattr(module, "DIRECTIONS", 4)
  parts = module.sliced_wasserstein(x, y, directions)
  np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 16])
def test_a_shift_costs_three_times_its_square(dims):
  # E (u . c)^2 = |c|^2 / d on the sphere. Directions that were no unit
  # vectors would cost d times as much.
  x, shift = normal(20, dims), np.arange(1.0, dims + 1)
  value = mind(x, x + shift, num_directions=20_000)
  rtol = 1e-12 if dims == 1 else 0.05
  np.testing.assert_allclose(value, 3 * shift @ shift, rtol=rtol)


def test_a_scale_costs_the_square_of_its_change():
  # Along u, x goes to 3 x: 4 E (u . x)^2, of which the mean over u is
  # 4 |x|^2 / d.
  x = normal(50, 6)
  expected = 3 * 4 * np.sum(x**2) / len(x)
  np.testing.assert_allclose(mind(x, 3 * x), expected, rtol=0.05)


def test_gaussians_have_a_closed_form():
  # Isotropic N(0, 1) against N(c, 4): on every line (u . c)^2 + (2 - 1)^2.
  dims, shift = 4, 2.0
  real, fake = normal(5000, dims), 2 * normal(5000, dims, 1) + shift
  expected = 3 * dims * (shift**2 + 1)
  np.testing.assert_allclose(mind(real, fake), expected, rtol=0.1)


def test_it_is_symmetric_and_0_only_to_itself():
  x, y = normal(40, 5), normal(40, 5, 1)
  assert mind(x, x) == 0 and mind(x, x[::-1]) < 1e-24
  assert mind(x, y) == mind(y, x) > 0


def test_it_sees_more_than_mean_and_covariance():
  signs = np.sign(normal(4000, 1))
  signs = signs / signs.std()
  x = normal(4000, 1)
  x = (x - x.mean()) / x.std() + signs.mean()
  # E (|x| - 1)^2 = 2 - 2 sqrt(2 / pi).
  expected = 3 * (2 - 2 * np.sqrt(2 / np.pi))
  np.testing.assert_allclose(mind(x, signs), expected, rtol=0.05)


def test_the_larger_side_is_cut_down():
  x, y = normal(50, 4), normal(30, 4, 1)
  for real, fake in ((x, y), (y, x)):
    record = metrics.get("mind", num_directions=9)(real, fake)
    assert record.protocol == {
      "num_real": len(real),
      "num_fake": len(fake),
      "num_compared": 30,
      "num_directions": 9,
      "seed": 2020,
    }
    assert record.flags == ()
  assert mind(x, y) == mind(y, x)
  # By a random choice without repetition, not the first ones.
  ramp = np.arange(50.0)[:, None]
  value = mind(ramp, ramp[:30])
  assert value > 3 * 20  # 0 of the first 30.
  picked = np.random.RandomState(2020)
  picked.normal(size=(1000, 1))
  picked = np.sort(ramp[picked.choice(50, 30, replace=False)], axis=0)
  expected = 3 * np.mean((picked - ramp[:30]) ** 2)
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_the_seed_chooses_the_directions():
  x, y = normal(20, 4), normal(20, 4, 1)
  one, same, other = (mind(x, y, seed=seed) for seed in (1, 1, 2))
  assert one == same != other
  np.testing.assert_allclose(one, other, rtol=0.1)


def test_a_collapsed_generator_is_a_result_and_flagged():
  x = normal(20, 3)
  record = metrics.get("mind")(x, np.repeat(x[:1], 20, axis=0))
  assert record.flags == ("constant",)
  assert np.isfinite(record.values["mind"])


@pytest.mark.parametrize(
  "hyper, num, text",
  [
    (dict(num_directions=0), 5, "num_directions is 0"),
    (dict(), 1, "1 fake samples are too few"),
  ],
)
def test_what_has_no_distance_is_refused(hyper, num, text):
  with pytest.raises(errors.UserError, match=text):
    mind(np.zeros((5, 3)), np.zeros((num, 3)), **hyper)
