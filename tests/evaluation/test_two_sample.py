import numpy as np
import pytest
from scipy import stats

from ganjax import errors
from ganjax.evaluation import metrics


def two_sample(real, fake, **hyper):
  return metrics.get("two_sample", **hyper)(np.asarray(real), np.asarray(fake))


def nearest(real, fake):
  values = two_sample(real, fake).values
  return values["nn_accuracy_real"], values["nn_accuracy_fake"]


def pairs(num, shift, seeds, dims=3):
  for seed in seeds:
    rng = np.random.RandomState(seed)
    yield rng.normal(size=(num, dims)), rng.normal(size=(num, dims)) + shift


def test_of_the_same_law_the_p_value_is_uniform():
  records = [two_sample(*pair) for pair in pairs(200, 0, range(60))]
  p = [record.values["two_sample_p_value"] for record in records]
  assert stats.kstest(p, "uniform").pvalue > 0.01
  for name in ("two_sample_accuracy", "nn_accuracy_real", "nn_accuracy_fake"):
    mean = np.mean([record.values[name] for record in records])
    assert 0.48 < mean < 0.52, name


def test_a_shift_is_seen_by_all():
  (pair,) = pairs(200, 6, [0])
  record = two_sample(*pair)
  assert record.values["two_sample_accuracy"] > 0.99
  assert record.values["two_sample_p_value"] < 1e-9
  assert record.values["nn_accuracy_real"] > 0.99
  assert record.values["nn_accuracy_fake"] > 0.99
  assert record.flags == ()


def test_accuracy_of_a_small_shift_is_that_of_the_best_classifier():
  # Of N(0, 1) and N(1, 1) it is Phi(1/2) = 0.691.
  values = [
    two_sample(*pair).values["two_sample_accuracy"]
    for pair in pairs(1000, 1, range(6), dims=1)
  ]
  np.testing.assert_allclose(np.mean(values), stats.norm.cdf(0.5), atol=0.01)


def test_the_p_value_is_that_of_the_paper():
  (pair,) = pairs(101, 0.5, [3])
  values = two_sample(*pair).values
  # A half of 101 is 50, so 2 * 51 are tested: deviation 1 / sqrt(4 * 102).
  z = (values["two_sample_accuracy"] - 0.5) * np.sqrt(4 * 102)
  correct = values["two_sample_accuracy"] * 102
  np.testing.assert_allclose(correct, round(correct), atol=1e-9)
  assert z > 0.5
  np.testing.assert_allclose(
    values["two_sample_p_value"], 1 - stats.norm.cdf(z), rtol=1e-9
  )


def test_nearest_neighbours_by_hand():
  real = [[0.0], [1.0], [10.0], [12.0]]
  fake = [[4.0], [11.5], [20.0], [21.0]]
  # Reals: 0 -> 1 right, 1 -> 0 right, 10 -> 11.5 wrong, 12 -> 11.5 wrong.
  # Fakes: 4 -> 1 wrong, 11.5 -> 12 wrong, 20 and 21 right.
  assert nearest(real, fake) == (0.5, 0.5)
  # 0 and 1 have the fake 0.1 nearest, and it 0; all others are right.
  assert nearest(real, [[0.1], [40.0], [30.0], [31.0]]) == (0.5, 0.75)


def test_ties_count_half():
  # Between real 0 and fake 2 there is as much as between real 0 and real -2.
  real, fake = [[0.0], [-2.0], [-3.0], [-3.5]], [[2.0], [9.0], [9.1], [9.2]]
  # Real 0 ties; the three others are right. Fake 2 is wrong.
  assert nearest(real, fake) == (0.875, 0.75)


def test_what_the_nearest_neighbour_tells_apart():
  rng = np.random.RandomState(5)
  real = rng.normal(size=(100, 3))
  copies = real + 1e-6 * rng.normal(size=real.shape)
  assert nearest(real, copies) == (0, 0)
  # Fakes at the centre of a mode: each real is nearer to it than to another.
  mode = rng.normal(size=(100, 100))
  of_real, of_fake = nearest(mode, 0.1 * rng.normal(size=mode.shape))
  assert of_real < 0.05 and of_fake == 1
  # A spread that no shift of the mean betrays.
  wide = two_sample(real, 4 * rng.normal(size=real.shape)).values
  assert wide["nn_accuracy_real"] > 0.75 and wide["two_sample_accuracy"] < 0.65


def test_it_uses_as_many_of_both_and_is_seeded():
  rng = np.random.RandomState(6)
  real, fake = rng.normal(size=(90, 2)), rng.normal(size=(60, 2)) + 0.5
  record = two_sample(real, fake)
  assert record.protocol == {
    "num_real": 90,
    "num_fake": 60,
    "num": 60,
    "seed": 0,
  }
  assert two_sample(real, fake).values == record.values
  assert two_sample(real, fake, seed=1).values != record.values
  few = two_sample(real, fake, num=20)
  assert few.protocol["num"] == 20
  # 20 of each are tested: every accuracy is a whole number of them.
  correct = few.values["two_sample_accuracy"] * 20
  np.testing.assert_allclose(correct, round(correct), atol=1e-9)


def test_neither_order_nor_scale_of_the_features_matters():
  (pair,) = pairs(100, [0.5, 0, 0], [7])
  values = two_sample(*pair).values
  scales = two_sample(pair[0] * 1e200, pair[1] * 1e200).values
  assert scales == pytest.approx(values)
  # Standardised, the logistic regression is blind to units of a coordinate.
  units = np.array([1e-6, 1, 1e6])
  changed = two_sample(pair[0] * units, pair[1] * units).values
  assert changed["two_sample_accuracy"] == values["two_sample_accuracy"]


def test_constant_samples_are_flagged():
  x = np.random.RandomState(8).normal(size=(40, 3))
  record = two_sample(x, np.zeros((40, 3)))
  assert record.flags == ("constant",)
  assert record.values["nn_accuracy_fake"] == 1
  same = two_sample(np.ones((40, 3)), np.ones((40, 3)))
  assert same.flags == ("constant",)
  assert same.values == {
    "two_sample_accuracy": 0.5,
    "two_sample_p_value": 0.5,
    "nn_accuracy_real": 0.5,
    "nn_accuracy_fake": 0.5,
  }


def test_user_errors():
  x = np.zeros((5, 2))
  with pytest.raises(errors.UserError, match="num is 3"):
    two_sample(x, x, num=3)
  with pytest.raises(errors.UserError, match="3 fake samples are too few"):
    two_sample(x, x[:3])
  bad = x.copy()
  bad[1, 1] = np.inf
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite"):
    two_sample(x, bad)
