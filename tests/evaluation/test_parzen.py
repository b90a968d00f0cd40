import numpy as np
import pytest
from scipy import special, stats

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import parzen


def images(num, seed, low=0, high=256):
  rng = np.random.RandomState(seed)
  return rng.randint(low, high, (num, 4, 4, 1)).astype(np.uint8)


def record(real, fake, **given):
  return metrics.get("parzen", **given)(real, fake)


def direct(examples, kernels, sigma):
  """Returns log-densities from differences, not from products."""
  x, s = (np.reshape(a, (len(a), -1)) / 255 for a in (examples, kernels))
  squares = ((x[:, None] - s) ** 2).sum(-1)
  log_sums = special.logsumexp(-squares / (2 * sigma**2), axis=1)
  volume = s.shape[1] * np.log(sigma * np.sqrt(2 * np.pi))
  return log_sums - np.log(len(s)) - volume


def test_parzen_agrees_with_its_definition():
  real, fake, test, valid = (images(n, n) for n in (5, 40, 30, 20))
  found = record(real, fake, held_out=test, validation=valid)
  means = [direct(valid, fake, sigma).mean() for sigma in parzen.SIGMAS]
  sigma = parzen.SIGMAS[np.argmax(means)]
  scores = direct(test, fake, sigma)
  assert found.values["sigma"] == sigma
  np.testing.assert_allclose(found.values["parzen"], scores.mean(), rtol=1e-12)
  np.testing.assert_allclose(
    found.values["parzen_error"], scores.std() / np.sqrt(30), rtol=1e-9
  )
  assert found.protocol == {
    "num_real": 5,
    "num_fake": 40,
    "num_validation": 20,
    "num_held_out": 30,
    "sigma_from": "validation",
  }
  assert found.flags == ("few samples: 40 kernels",)


def test_blocks_change_nothing(monkeypatch):
  fake, test = images(40, 1), images(30, 2)
  whole = record(fake, fake, held_out=test)
  monkeypatch.setattr(parzen, "BLOCK", 40 * 7)
  assert record(fake, fake, held_out=test).values == pytest.approx(
    whole.values, rel=1e-12
  )


def test_pixels_may_be_bytes_or_fractions():
  real, fake, test = images(5, 1), images(40, 2), images(30, 3)
  found = record(real, fake, held_out=test)
  fractions = record(real / 255, fake / 255, held_out=test / 255)
  assert fractions.values == pytest.approx(found.values, rel=1e-12)
  assert fractions.protocol == found.protocol


@pytest.mark.parametrize("index", [0, 4, 9])
def test_one_kernel_is_a_gaussian_whose_best_sigma_is_the_deviation(index):
  """The mean of -s^2 / (2 sigma^2) - log sigma is largest at sigma = s."""
  s = parzen.SIGMAS[index]
  kernel, valid = np.zeros((1, 1)), np.array([[s], [-s]])
  test = np.array([[0.3], [0.5], [0.7]])
  found = record(kernel, kernel, held_out=test, validation=valid)
  assert found.values["sigma"] == s
  expected = stats.norm.logpdf(test, scale=s)
  np.testing.assert_allclose(found.values["parzen"], expected.mean())
  np.testing.assert_allclose(
    found.values["parzen_error"], expected.std() / np.sqrt(3)
  )
  at_end = "sigma at the end of its grid" in found.flags
  assert at_end == (index in (0, 9))


def test_kernels_of_a_gaussian_make_a_wider_gaussian():
  quantiles = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)[:, None]
  test = np.linspace(-2, 2, 9)[:, None]
  found = record(quantiles, quantiles, held_out=test, validation=test)
  width = np.sqrt(1 + found.values["sigma"] ** 2)
  expected = stats.norm.logpdf(test, scale=width).mean()
  np.testing.assert_allclose(found.values["parzen"], expected, atol=1e-4)
  assert not any("few samples" in flag for flag in found.flags)


def test_the_farther_the_samples_the_less_likely_the_data():
  test = images(40, 1, 100, 120)
  scores = []
  for shift in (0, 20, 60, 130):
    fake = images(50, 2, 100, 120) + np.uint8(shift)
    scores.append(record(test, fake, held_out=test).values["parzen"])
  assert scores == sorted(scores, reverse=True) and np.isfinite(scores).all()
  # So far that every single kernel is 0 in double precision.
  far = np.full((3, 2), 1e3)
  values = record(far, far, held_out=np.zeros((2, 2))).values
  np.testing.assert_allclose(values["parzen"], -1e6, rtol=1e-4)


def test_without_validation_a_tenth_of_the_held_out_chooses_sigma():
  fake, test = images(40, 1), images(57, 2)
  found = record(fake, fake, held_out=test)
  given = record(fake, fake, held_out=test[5:], validation=test[:5])
  assert found.values == given.values
  assert found.protocol["sigma_from"] == "held-out"
  assert found.protocol["num_validation"] == 5
  assert found.protocol["num_held_out"] == 52
  few = record(fake, fake, held_out=test, num_validation=3).protocol
  assert (few["num_validation"], few["num_held_out"]) == (3, 54)
  least = record(fake, fake, held_out=test[:2]).protocol
  assert (least["num_validation"], least["num_held_out"]) == (1, 1)


def test_only_the_first_validation_examples_choose_sigma():
  fake, test, valid = images(40, 1), images(9, 2), images(30, 3)
  found = record(
    fake,
    fake,
    held_out=test,
    validation=valid,
    num_validation=10,
  )
  first = record(fake, fake, held_out=test, validation=valid[:10])
  assert found.values == first.values
  assert found.protocol["num_fake"] == 40
  assert found.protocol["num_validation"] == 10
  assert found.flags == first.flags


@pytest.mark.parametrize(
  ("given", "text"),
  [
    (dict(held_out=None), "needs a held-out split"),
    (dict(held_out=images(5, 0), num_validation=0), "num_validation is 0"),
    (dict(held_out=images(1, 0)), "1 validation and 0 held-out"),
    (dict(held_out=images(0, 0)), "0 validation and 0 held-out"),
    (
      dict(held_out=images(5, 0), validation=images(0, 0)),
      "0 validation and 5 held-out",
    ),
    (dict(held_out=np.zeros((5, 3))), r"held-out examples \(5, 3\) .*4, 4"),
    (
      dict(held_out=images(5, 0), validation=np.zeros((5, 3))),
      r"validation examples \(5, 3\)",
    ),
    (
      dict(held_out=np.full((5, 4, 4, 1), np.nan)),
      "held-out examples are not finite",
    ),
  ],
)
def test_parzen_refuses_what_it_cannot_score(given, text):
  with pytest.raises(errors.UserError, match=text) as e:
    record(images(5, 1), images(5, 2), **given)
  assert "\n" not in str(e.value)


def test_points_that_are_not_finite_are_named():
  fake = np.zeros((5, 2))
  fake[1, 1] = np.nan
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite"):
    record(np.zeros((5, 2)), fake, held_out=np.zeros((4, 2)))
