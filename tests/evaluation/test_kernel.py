import numpy as np
import pytest
from sklearn.metrics import pairwise

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import kernel as module


def kernel(real, fake, **hyper):
  return metrics.get("kernel", **hyper)(real, fake)


def samples():
  rng = np.random.RandomState(0)
  real = rng.normal(size=(60, 8))
  return real, 1.5 * rng.normal(size=(50, 8)) + 0.25


@pytest.mark.parametrize(
  "seed, mean, std",
  [
    (2020, 0.9597578181165025, 0.5553108787640787),
    (3, 0.7966505701231215, 0.23962586524988838),
  ],
)
def test_torch_fidelity_gives_the_same(seed, mean, std):
  # torch-fidelity 0.4.0: kid_features_to_metric(fake, real, kid_subsets=7,
  # kid_subset_size=20, rng_seed=seed) of these float64 arrays. The other way
  # round it draws other subsets: 0.9118829 with the first seed.
  real, fake = samples()
  record = kernel(real, fake, num_subsets=7, subset_size=20, seed=seed)
  np.testing.assert_allclose(record.values["kernel_mean"], mean, rtol=1e-12)
  np.testing.assert_allclose(record.values["kernel_std"], std, rtol=1e-12)
  assert record.flags == ()
  assert record.protocol == {
    "num_real": 60,
    "num_fake": 50,
    "num_subsets": 7,
    "subset_size": 20,
    "seed": seed,
  }


def test_torch_fidelity_in_float32_gives_almost_the_same():
  # As above, of the float32 arrays, in which it computes then.
  real, fake = (x.astype(np.float32) for x in samples())
  values = kernel(real, fake, num_subsets=7, subset_size=20).values
  np.testing.assert_allclose(values["kernel_mean"], 0.9597576005118233, 1e-5)


def test_the_estimate_by_hand():
  # In one dimension (x y + 1)^3. Of 0 and 1 one pair, 1, of 2 and -1 one,
  # (-2 + 1)^3; across 1, 1, 27, 0, a mean of 7.25: 1 - 1 - 2 * 7.25.
  x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]])
  np.testing.assert_allclose(module.mmd2(x, y), -14.5, rtol=1e-14)
  values = kernel(x, y, num_subsets=3).values
  np.testing.assert_allclose(values["kernel_mean"], -14.5, rtol=1e-14)
  assert values["kernel_std"] < 1e-12


@pytest.mark.parametrize("rows", [7, 1024])
def test_the_estimate_agrees_with_kernel_matrices(monkeypatch, rows):
  monkeypatch.setattr(module, "ROWS", rows)
  real, fake = samples()
  xx, yy, xy = (
    pairwise.polynomial_kernel(a, b, degree=3, coef0=1)  # gamma is 1 / d.
    for a, b in ((real, real), (fake, fake), (real, fake))
  )
  off = [k[~np.eye(len(k), dtype=bool)].mean() for k in (xx, yy)]
  expected = sum(off) - 2 * xy.mean()
  np.testing.assert_allclose(module.mmd2(real, fake), expected, rtol=1e-12)


def test_the_estimate_has_no_bias():
  # Over 3000 pairs of one law its mean is 0 within four standard errors. The
  # biased one, with the diagonals, would be above 0 by far.
  rng = np.random.RandomState(1)
  values = [module.mmd2(*rng.normal(size=(2, 6, 3))) for _ in range(3000)]
  error = np.std(values) / np.sqrt(len(values))
  assert abs(np.mean(values)) < 4 * error
  assert 4 * error < 1  # A diagonal of about 9 would add 9 / 6, twice.


def test_it_tells_laws_of_equal_mean_and_covariance_apart():
  # Both have mean 0 and variance 1; the third moments are 0 and 1.5. Of the
  # mean of (x y + 1)^3 only the square of their difference remains.
  even = np.repeat([[1.0], [-1.0]], 500, axis=0)
  skewed = np.repeat([[2.0], [-0.5]], [200, 800], axis=0)
  np.testing.assert_allclose(module.mmd2(even, skewed), 1.5**2, atol=0.05)


@pytest.mark.parametrize(
  "num_real, num_fake, size, flags",
  [
    (40, 30, 20, ()),
    (40, 20, 20, ()),
    (20, 20, 20, ("subsets all alike",)),
    (40, 15, 15, ("few samples: subsets of 15",)),
    (15, 15, 15, ("few samples: subsets of 15", "subsets all alike")),
  ],
)
def test_few_samples_make_smaller_subsets(num_real, num_fake, size, flags):
  real, fake = (
    x[:n] for x, n in zip(samples(), (num_real, num_fake), strict=True)
  )
  record = kernel(real, fake, num_subsets=4, subset_size=20)
  assert record.protocol["subset_size"] == size
  assert record.flags == flags
  alike = "subsets all alike" in flags
  assert (record.values["kernel_std"] < 1e-12) == alike


def test_a_collapsed_generator_is_a_result_and_flagged():
  real, _ = samples()
  record = kernel(real, np.repeat(real[:1], 50, axis=0), num_subsets=2)
  assert "constant" in record.flags
  assert record.values["kernel_mean"] > 0
  again = kernel(real, real, num_subsets=2)
  assert "constant" not in again.flags


@pytest.mark.parametrize(
  "hyper, num, text",
  [
    (dict(num_subsets=0), 5, "num_subsets is 0"),
    (dict(subset_size=1), 5, "subset_size is 1"),
    (dict(), 1, "1 fake samples are too few"),
  ],
)
def test_what_has_no_estimate_is_refused(hyper, num, text):
  with pytest.raises(errors.UserError, match=text):
    kernel(np.zeros((5, 3)), np.zeros((num, 3)), **hyper)
