"""What the papers prove, as numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors
from ganjax.objectives import losses
from ganjax.tools import theory
from ganjax.tools.theory import games

LOG4 = math.log(4)
P = np.array([0.5, 0.5, 0.0])
Q = np.array([0.25, 0.5, 0.25])
DISJOINT = np.array([1.0, 0.0]), np.array([0.0, 1.0])


@pytest.fixture
def double():
  with games.float64():
    yield


def histograms(seed, num_bins=40, concentration=2.0):
  rng = np.random.default_rng(seed)
  return rng.dirichlet(np.full(num_bins, concentration), 2)


def gaussians(mean, scale, num=4001):
  x = np.linspace(-10, 10, num)
  pdf = lambda m, s: np.exp(-(((x - m) / s) ** 2) / 2) / s / (2 * np.pi) ** 0.5
  return pdf(0, 1), pdf(mean, scale), x[1] - x[0]


# Goodfellow et al. 2014, section 4.


def test_proposition_1_gradient_ascent_finds_the_optimal_d(double):
  p, q = histograms(0)
  p[3] = q[5] = p[7] = q[7] = 0
  d = np.asarray(games.fit_discriminator(p, q))
  best = theory.optimal_discriminator(p, q)
  known = np.delete(np.arange(40), [3, 5])
  np.testing.assert_allclose(d[known], best[known], atol=1e-6, rtol=0)
  # Where one has no mass D's logit goes to infinity, ever more slowly.
  np.testing.assert_allclose(d[[3, 5]], best[jnp.array([3, 5])], atol=1e-4)
  np.testing.assert_array_equal(best[jnp.array([3, 5, 7])], [0, 1, 0.5])


def test_the_optimal_d_has_the_highest_value(double):
  p, q = histograms(1)
  best = theory.optimal_discriminator(p, q)
  top = theory.virtual_criterion(p, q)
  np.testing.assert_allclose(theory.value(p, q, best), top, atol=1e-14)
  for seed in range(20):
    noise = np.random.default_rng(seed).normal(0, 0.1, 40)
    other = jax.nn.sigmoid(jax.scipy.special.logit(best) + noise)
    assert theory.value(p, q, other) < top
  slope = jax.grad(theory.value, 2)(p, q, best)
  np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_value_by_hand(double):
  d = [0.5, 0.8, 0.0]
  by_hand = 0.5 * math.log(0.5) + 0.5 * math.log(0.8)
  by_hand += 0.25 * math.log(0.5) + 0.5 * math.log(0.2)  # 0.25 log 1 = 0.
  np.testing.assert_allclose(theory.value(P, Q, d), by_hand, rtol=1e-14)
  np.testing.assert_allclose(
    theory.value(P, Q, d, dx=0.5), by_hand / 2, rtol=1e-14
  )
  assert theory.value(P, Q, [0.0, 0.5, 0.5]) == -math.inf
  assert theory.value(P, Q, [0.5, 0.5, 1.0]) == -math.inf


@pytest.mark.parametrize("concentration", [0.02, 0.5, 20.0])
def test_theorem_1(double, concentration):
  p, q = histograms(2, concentration=concentration)
  c = theory.virtual_criterion(p, q)
  jsd = theory.jensen_shannon(p, q)
  np.testing.assert_allclose(c, -LOG4 + 2 * jsd, atol=1e-12, rtol=0)
  assert -LOG4 + 1e-3 < c <= 0
  # The minimum is at p_g = p_data, and only there.
  np.testing.assert_allclose(theory.virtual_criterion(p, p), -LOG4, rtol=1e-14)
  near = (1 - 1e-3) * p + 1e-3 * q
  assert theory.virtual_criterion(p, near) > -LOG4 + 1e-12
  np.testing.assert_allclose(theory.virtual_criterion(*DISJOINT), 0)
  np.testing.assert_allclose(
    theory.jensen_shannon(*DISJOINT), math.log(2), rtol=1e-14
  )


def test_gradient_of_the_criterion_is_log_one_minus_d(double):
  p, q = histograms(3)
  gradient = jax.grad(theory.virtual_criterion, 1)(p, q)
  np.testing.assert_allclose(gradient, np.log(q / (p + q)), rtol=1e-12)
  bump = np.eye(40)[4] * 1e-6
  up, down = (theory.virtual_criterion(p, q + s * bump) for s in (1, -1))
  np.testing.assert_allclose((up - down) / 2e-6, gradient[4], rtol=1e-6)


def test_proposition_2_small_steps_of_p_g_converge(double):
  p, q = histograms(4, concentration=0.7)
  trajectory = games.multiplicative_weights(p, q)
  np.testing.assert_array_equal(trajectory[0], q)
  distance = lambda x: theory.jensen_shannon(p, x)
  jsd = np.asarray(jax.vmap(distance)(trajectory))
  assert jsd[0] > 0.1 and jsd[100] < 1e-3
  assert (np.diff(jsd) < 1e-15).all()  # Monotone, up to rounding.
  assert abs(jsd[1000]) < 1e-15
  np.testing.assert_allclose(trajectory.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize(("d", "ratio"), [(0.1, 9), (0.01, 99), (1e-4, 9999)])
def test_saturation(d, ratio):
  """2014, section 3: per logit -D against -(1 - D)."""
  logit = jnp.array([math.log(d / (1 - d))])
  slope = lambda name: jax.grad(losses.get(name).generator, 1)(logit, logit)[0]
  np.testing.assert_allclose(slope("minimax"), -d, rtol=1e-4)
  np.testing.assert_allclose(
    slope("non_saturating") / slope("minimax"), ratio, rtol=1e-4
  )


# Divergences.


def test_divergences_of_two_coins_by_hand(double):
  p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
  forward = math.log(5 / 3)  # .5 log(5/9) + .5 log 5
  backward = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
  jsd = (0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)) / 2
  jsd += (0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3)) / 2
  by_hand = {
    theory.kl: forward,
    theory.reverse_kl: backward,
    theory.jeffreys: 0.4 * math.log(9),
    theory.jensen_shannon: jsd,
    theory.total_variation: 0.4,
    theory.pearson: 0.16 / 0.9 + 0.16 / 0.1,
    theory.squared_hellinger: 2 - 2 * (0.45**0.5 + 0.05**0.5),
    theory.wasserstein_1d: 0.4,
  }
  for divergence, number in by_hand.items():
    np.testing.assert_allclose(
      divergence(p, q), number, rtol=1e-13, err_msg=divergence.__name__
    )
    np.testing.assert_allclose(divergence(p, p), 0, atol=1e-16)


def test_the_mean_of_both_kls_is_not_jensen_shannon(double):
  p, q = histograms(5)
  mean = (theory.kl(p, q) + theory.kl(q, p)) / 2
  np.testing.assert_allclose(mean, theory.jeffreys(p, q) / 2, rtol=1e-14)
  jsd = theory.jensen_shannon(p, q)
  assert 0 < jsd < mean / 2  # Lin 1991: JSD is at most J / 4.
  np.testing.assert_allclose(theory.kl(q, p), theory.reverse_kl(p, q))


def test_gaussians_on_a_grid_have_their_closed_forms(double):
  mean, scale = 0.7, 1.3
  p, q, dx = gaussians(mean, scale)
  kl = math.log(scale) + (1 + mean**2) / (2 * scale**2) - 0.5
  np.testing.assert_allclose(theory.kl(p, q, dx), kl, rtol=1e-9)
  back = -math.log(scale) + (scale**2 + mean**2) / 2 - 0.5
  np.testing.assert_allclose(theory.reverse_kl(p, q, dx), back, rtol=1e-9)
  root = math.sqrt(2 * scale / (1 + scale**2))
  affinity = root * math.exp(-(mean**2) / (4 * (1 + scale**2)))
  np.testing.assert_allclose(
    theory.squared_hellinger(p, q, dx), 2 - 2 * affinity, rtol=1e-9
  )
  p, q, dx = gaussians(mean, 1.0)
  np.testing.assert_allclose(theory.wasserstein_1d(p, q, dx), mean, rtol=1e-6)
  overlap = math.erf(mean / 2 / math.sqrt(2))
  np.testing.assert_allclose(
    theory.total_variation(p, q, dx), overlap, rtol=1e-5
  )
  chi = math.exp(mean**2) - 1
  np.testing.assert_allclose(theory.pearson(p, q, dx), chi, rtol=1e-9)


def test_wasserstein_of_a_shift_is_the_shift(double):
  p = np.pad(histograms(6, 10)[0], (0, 5))
  for shift in range(6):
    shifted = np.roll(p, shift)
    distance = theory.wasserstein_1d(p, shifted)
    np.testing.assert_allclose(distance, shift, atol=1e-14)
    density = theory.wasserstein_1d(p / 0.1, shifted / 0.1, dx=0.1)
    np.testing.assert_allclose(density, 0.1 * shift, atol=1e-14)


def test_supports_that_differ(double):
  assert theory.kl(P, Q) == 0.5 * math.log(2)
  assert theory.kl(Q, P) == theory.reverse_kl(P, Q) == math.inf
  assert theory.jeffreys(P, Q) == theory.pearson(Q, P) == math.inf
  np.testing.assert_allclose(theory.pearson(P, Q), 0.25 + 0.25)
  assert theory.total_variation(*DISJOINT) == 1
  assert theory.squared_hellinger(*DISJOINT) == 2
  both_empty = np.append(P, 0), np.append(Q, 0)
  assert theory.kl(*both_empty) == 0.5 * math.log(2)
  assert theory.pearson(*both_empty) == theory.pearson(P, Q)


@pytest.mark.parametrize(
  "function",
  [
    theory.virtual_criterion,
    theory.jensen_shannon,
    theory.kl,
    theory.squared_hellinger,
    theory.pearson,
    theory.total_variation,
    theory.wasserstein_1d,
  ],
)
def test_float32_and_gradients_where_a_bin_is_empty(function):
  p, q = np.append(P, 0), np.append(Q, 0)
  number, gradients = jax.value_and_grad(function, (0, 1))(p, q)
  assert number.dtype == jnp.float32
  assert not np.isnan(gradients).any()
  np.testing.assert_allclose(jax.jit(function)(p, q), number, rtol=1e-6)


def test_bad_histograms_are_named():
  for bad, message in (
    (([0.5, 0.5], [1.0]), r"p \[2\], q \[1\]"),
    (([[1.0]], [[1.0]]), r"shape \[K\], not p \[1, 1\]"),
    ((0.5, 0.5), r"p \[\]"),
    (([0.5, 0.5], [1.5, -0.5]), "q must be at least 0"),
    (([math.nan, 1.0], [0.5, 0.5]), "p must be at least 0"),
  ):
    with pytest.raises(errors.UserError, match=message) as error:
      theory.kl(np.array(bad[0]), np.array(bad[1]))
    assert "\n" not in str(error.value)
  with pytest.raises(errors.UserError, match="d must be at most 1"):
    theory.value(P, Q, [0.5, 1.5, 0.5])
