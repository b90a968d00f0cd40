import numpy as np
import pytest

from ganjax import errors
from ganjax.evaluation import metrics

RNG = np.random.RandomState(0)


def intra(real, labels, fake, fake_labels):
  metric = metrics.get("intra_frechet", labels=labels, fake_labels=fake_labels)
  return metric(np.asarray(real), np.asarray(fake))


def test_by_hand_in_one_dimension():
  # Class 0: means 0 and 4, variances 2 and 8: 16 + (sqrt 8 - sqrt 2)^2 = 18.
  # Class 1: means 10 and 11, variances 2 and 2: 1. It has more samples, but
  # the mean over the classes does not weigh them.
  real = [[-1.0], [9.0], [1.0], [11.0], [9.0], [11.0], [10.0]]
  fake = [[10.0], [12.0], [2.0], [6.0]]
  record = intra(real, [0, 1, 0, 1, 1, 1, 1], fake, [1, 1, 0, 0])
  variance = 1.0  # Of 9, 11, 9, 11, 10 with the divisor 4.
  second = 1 + (np.sqrt(2) - np.sqrt(variance)) ** 2
  np.testing.assert_allclose(
    [record.values["intra_frechet"], record.values["intra_frechet_worst"]],
    [(18 + second) / 2, 18],
    rtol=1e-9,
  )
  assert record.protocol == {
    "num_real": 7,
    "num_fake": 4,
    "dims": 1,
    "classes": 2,
    "fewest_real": 2,
    "fewest_fake": 2,
  }
  assert record.flags == ()


def test_it_is_the_distance_of_each_class():
  real, fake = RNG.normal(size=(90, 3)), RNG.normal(size=(60, 3)) + 0.5
  labels, fake_labels = np.arange(90) % 3 * 7, np.arange(60) % 3 * 7
  each = [
    metrics.get("frechet")(real[labels == c], fake[fake_labels == c])
    for c in (0, 7, 14)
  ]
  each = [record.values["frechet"] for record in each]
  values = intra(real, labels, fake, fake_labels).values
  np.testing.assert_allclose(values["intra_frechet"], np.mean(each))
  np.testing.assert_allclose(values["intra_frechet_worst"], max(each))
  order = RNG.permutation(60)
  again = intra(real, labels, fake[order], fake_labels[order]).values
  np.testing.assert_allclose(list(again.values()), list(values.values()))


def test_it_sees_fakes_that_ignore_their_class():
  labels = np.arange(80) % 2
  real = RNG.normal(size=(80, 2)) + 10 * labels[:, None]
  whole = metrics.get("frechet")(real, real).values["frechet"]
  assert whole < 1e-9
  right = intra(real, labels, real, labels).values
  wrong = intra(real, labels, real, 1 - labels).values
  assert right["intra_frechet_worst"] < 1e-9
  # The means of the classes are about (10, 10) apart.
  assert 150 < wrong["intra_frechet"] < 250


def test_doubtful_classes_are_flagged():
  real, labels = RNG.normal(size=(40, 4)), np.arange(40) % 2
  assert intra(real, labels, real, labels).flags == ()
  few = intra(real, labels, real[:14], np.repeat([0, 1], [10, 4]))
  assert few.flags == ("rank deficient",)
  assert few.protocol["fewest_fake"] == 4
  fake = real.copy()
  fake[labels == 1] = 3.0
  collapsed = intra(real, labels, fake, labels)
  assert collapsed.flags == ("constant",)
  assert np.isfinite(collapsed.values["intra_frechet"])


@pytest.mark.parametrize(
  "labels, fake_labels, text",
  [
    (None, [0, 0, 1, 1], "dataset has no labels"),
    ([0, 0, 1, 1], None, "samples have no labels"),
    ([0, 0, 1], [0, 0, 1, 1], r"\(3,\) .* 4 real"),
    ([0, 0, 1, 1], [[0], [0], [1], [1]], r"\(4, 1\) .* 4 fake"),
    ([0, 0, 1, 1], [0, 0, 0, 1], "class 1 has 1 fake samples"),
    ([0, 0, 0, 0], [0, 0, 5, 5], "class 5 has 0 real samples"),
    ([0, 0, 1, 1], [0, 0, 0, 0], "class 1 has 0 fake samples"),
  ],
)
def test_classes_without_samples_are_a_user_error(labels, fake_labels, text):
  samples = np.arange(4.0)[:, None]
  with pytest.raises(errors.UserError, match=text) as e:
    intra(samples, labels, samples, fake_labels)
  assert "\n" not in str(e.value)


def test_non_finite_samples_are_named_first():
  fake = np.zeros((5, 2))
  fake[2, 1] = np.nan
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite"):
    intra(np.zeros((5, 2)), np.arange(5) % 2, fake, np.arange(5))
