"""Values and gradients of the objectives, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, losses

REAL = jnp.array([0.0, 2.0])
FAKE = jnp.array([-1.0, 0.5])


def sp(x):
  return np.log1p(np.exp(np.float64(x)))


def sigmoid(x):
  return 1 / (1 + np.exp(-np.float64(x)))


CROSS_ENTROPY = (sp(0) + sp(-2)) / 2 + (sp(-1) + sp(0.5)) / 2
# name -> D's loss, dD/d(real, fake), G's loss, dG/d(fake); N = 2.
BY_HAND = {
  "minimax": (
    CROSS_ENTROPY,
    ([-sigmoid(0) / 2, -sigmoid(-2) / 2], [sigmoid(-1) / 2, sigmoid(0.5) / 2]),
    -(sp(-1) + sp(0.5)) / 2,
    [-sigmoid(-1) / 2, -sigmoid(0.5) / 2],
  ),
  "non_saturating": (
    CROSS_ENTROPY,
    ([-sigmoid(0) / 2, -sigmoid(-2) / 2], [sigmoid(-1) / 2, sigmoid(0.5) / 2]),
    (sp(1) + sp(-0.5)) / 2,
    [-sigmoid(1) / 2, -sigmoid(-0.5) / 2],
  ),
  # (r - 1)^2 = 1, 1; f^2 = 1, .25; (f - 1)^2 = 4, .25.
  "least_squares": (
    1 + 0.625,
    ([-1.0, 1.0], [-1.0, 0.5]),
    2.125,
    [-2.0, -0.5],
  ),
  # max(0, 1 - r) = 1, 0; max(0, 1 + f) = 0, 1.5 (at f = -1 the kink).
  "hinge": (0.5 + 0.75, ([-0.5, 0.0], [0.0, 0.5]), 0.25, [-0.5, -0.5]),
  "wasserstein": (-0.25 - 1.0, ([-0.5, -0.5], [0.5, 0.5]), 0.25, [-0.5, -0.5]),
}


def test_every_loss_is_here():
  assert BY_HAND.keys() == losses.LOSSES.keys()


@pytest.mark.parametrize("name", BY_HAND)
def test_values_and_gradients(name):
  loss = losses.get(name)
  d_value, (d_real, d_fake), g_value, g_fake = BY_HAND[name]
  value, grads = jax.value_and_grad(loss.discriminator, (0, 1))(REAL, FAKE)
  np.testing.assert_allclose(value, d_value, rtol=1e-6)
  np.testing.assert_allclose(grads[0], d_real, atol=1e-6)
  np.testing.assert_allclose(grads[1], d_fake, atol=1e-6)
  value, grads = jax.value_and_grad(loss.generator, (0, 1))(REAL, FAKE)
  np.testing.assert_allclose(value, g_value, rtol=1e-6)
  np.testing.assert_allclose(grads[0], [0, 0], atol=1e-6)
  np.testing.assert_allclose(grads[1], g_fake, atol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_float32_finite_and_scalar(name):
  loss = losses.get(name)
  for scale in (1.0, 1e4):
    real = jnp.array([scale, -scale], jnp.bfloat16)
    for function in loss.discriminator, loss.generator:
      value, grad = jax.value_and_grad(function, 1)(real, -real)
      assert value.dtype == jnp.float32 and value.shape == ()
      assert jnp.isfinite(value) and jnp.isfinite(grad).all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_columns_of_logits_are_refused(name):
  with pytest.raises(ValueError, match=r"\[2, 1\]"):
    losses.get(name).discriminator(REAL[:, None], FAKE)


def test_non_saturating_gradient_is_odds_times_minimax():
  """2014, section 3: the ratio of the two is (1 - D) / D."""
  logits = jnp.array([-4.0, -1.0, 0.0, 3.0])
  grad = {
    name: jax.grad(losses.get(name).generator, 1)(logits, logits)
    for name in ("minimax", "non_saturating")
  }
  d = sigmoid(logits)
  ratio = grad["non_saturating"] / grad["minimax"]
  np.testing.assert_allclose(ratio, (1 - d) / d, rtol=1e-5)


def test_equilibrium_constants():
  zeros = jnp.zeros(3)
  at = lambda name, logits, **kw: losses.get(name, **kw).discriminator(
    logits, logits
  )
  np.testing.assert_allclose(at("minimax", zeros), np.log(4), rtol=1e-6)
  half = at("non_saturating", zeros, d_weight=0.5)
  np.testing.assert_allclose(half, np.log(2), rtol=1e-6)
  np.testing.assert_allclose(at("least_squares", zeros + 0.5), 0.5)
  np.testing.assert_allclose(at("hinge", zeros), 2.0)
  assert losses.get("least_squares").boundary == 0.5


def test_least_squares_targets():
  loss = losses.get(
    "least_squares", fake_target=-1.0, real_target=1.0, generator_target=0.0
  )
  # (r - 1)^2 = 1, 1; (f + 1)^2 = 0, 2.25; f^2 = 1, .25.
  np.testing.assert_allclose(loss.discriminator(REAL, FAKE), 1 + 1.125)
  np.testing.assert_allclose(loss.generator(REAL, FAKE), 0.625)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'hinge'"):
    losses.get("hinje")
  with pytest.raises(errors.UserError, match="d_weight=-1"):
    losses.get("hinge", d_weight=-1)
