import numpy as np
import pytest
import scipy.stats

from ganjax import errors
from ganjax.evaluation import metrics


def score(fake, **hyper):
  return metrics.get("inception_score", **hyper)(np.zeros((7, 8)), fake)


def logits():
  """Returns the `[50, 8]` that torch-fidelity was given."""
  rng = np.random.RandomState(0)
  rng.normal(size=(60, 8))
  return 1.5 * rng.normal(size=(50, 8)) + 0.25


@pytest.mark.parametrize(
  "scale, num, hyper, mean, std",
  [
    (1, 50, {}, 1.6305520568147813, 0.09987654262022694),
    (3, 47, {}, 2.8917880843971004, 0.4650647069975239),
    (3, 50, {"splits": 5, "seed": 3}, 3.8055385690198436, 0.7300830566541208),
  ],
)
def test_torch_fidelity_gives_the_same(scale, num, hyper, mean, std):
  # torch-fidelity 0.4.0: isc_features_to_metric(scale * logits()[:num],
  # splits, True, seed), with splits 10 and seed 2020 where none are given.
  values = score(scale * logits()[:num], **hyper).values
  np.testing.assert_allclose(values["inception_score_mean"], mean, rtol=1e-12)
  np.testing.assert_allclose(values["inception_score_std"], std, rtol=1e-12)


def test_the_score_by_hand():
  # p(y|x) of (1/4, 3/4) and of (3/4, 1/4), so p(y) = (1/2, 1/2) and both
  # divergences are 1/4 log 1/2 + 3/4 log 3/2. Logits add a constant at will.
  fake = np.array([[5.0, 5.0 + np.log(3)], [np.log(3), 0.0]])
  record = metrics.get("inception_score", splits=1)(fake, fake)
  expected = 0.5**0.25 * 1.5**0.75
  value = record.values["inception_score_mean"]
  np.testing.assert_allclose(value, expected, rtol=1e-14)
  assert record.values["inception_score_std"] == 0
  assert record.protocol == {
    "num_real": 2,
    "num_fake": 2,
    "num_classes": 2,
    "splits": 1,
    "seed": 2020,
  }
  assert record.flags == ()


def test_it_is_the_mutual_information_of_class_and_sample():
  fake = 2 * logits()
  p = np.exp(fake) / np.exp(fake).sum(axis=1, keepdims=True)
  information = scipy.stats.entropy(p.mean(axis=0)) - np.mean(
    scipy.stats.entropy(p, axis=1)
  )
  value = score(fake, splits=1).values["inception_score_mean"]
  np.testing.assert_allclose(value, np.exp(information), rtol=1e-12)


@pytest.mark.parametrize("big", [40.0, 1e4, 1e300])
def test_sure_and_balanced_logits_score_the_number_of_classes(big):
  # Where softmax underflows to 0 a naive 0 log 0 is NaN.
  fake = big * np.eye(8)[np.arange(80) % 8]
  value = score(fake, splits=1).values["inception_score_mean"]
  np.testing.assert_allclose(value, 8, rtol=1e-12)
  two = score(fake[fake[:, :2].any(axis=1)], splits=1)
  np.testing.assert_allclose(two.values["inception_score_mean"], 2, rtol=1e-12)


def test_uniform_logits_score_1_and_the_same_ones_are_flagged():
  uniform = np.repeat(np.arange(80.0)[:, None], 8, axis=1)
  record = score(uniform)
  np.testing.assert_allclose(record.values["inception_score_mean"], 1, 1e-12)
  assert record.flags == ()
  collapsed = score(np.repeat(logits()[:1], 80, axis=0))
  np.testing.assert_allclose(collapsed.values["inception_score_mean"], 1, 1e-12)
  assert collapsed.flags == ("constant",)


def test_the_reals_do_not_matter():
  metric, fake = metrics.get("inception_score"), logits()
  one, other = metric(fake, fake), metric(fake[:9] + 1, fake)
  assert one.values == other.values
  assert other.protocol["num_real"] == 9


@pytest.mark.parametrize(
  "num, splits, flags",
  [
    (80, 10, ()),
    (79, 10, ("fewer samples a split than classes",)),
    (10, 10, ("fewer samples a split than classes",)),
    (9, 1, ("few samples: one split",)),
    (7, 1, ("few samples: one split", "fewer samples a split than classes")),
  ],
)
def test_few_samples_are_flagged(num, splits, flags):
  record = score(np.random.RandomState(0).normal(size=(num, 8)))
  assert record.protocol["splits"] == splits
  assert record.flags == flags
  assert all(np.isfinite(x) for x in record.values.values())


@pytest.mark.parametrize(
  "hyper, num, text",
  [
    (dict(splits=0), 5, "splits is 0"),
    (dict(), 0, "0 fake samples are too few"),
  ],
)
def test_what_has_no_score_is_refused(hyper, num, text):
  with pytest.raises(errors.UserError, match=text):
    score(np.zeros((num, 8)), **hyper)
