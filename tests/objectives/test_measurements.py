"""What a step measures of itself, by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import parallel
from ganjax.objectives import losses, measurements

LOG3 = math.log(3.0)
# D(x) of 1/2 and 3/4, D(G(z)) of 1/4 and 3/4.
REAL = jnp.array([0.0, LOG3])
FAKE = jnp.array([-LOG3, LOG3])


def close(got, expected, rtol=1e-6):
  np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-6)


def test_logits_by_hand():
  got = measurements.of_logits(losses.get("non_saturating"), REAL, FAKE)
  expected = dict(
    d_real_accuracy=0.5,  # One half itself is on no side.
    d_fake_accuracy=0.5,
    d_real=0.625,
    d_fake=0.5,
    logit_gap=LOG3 / 2,
    # Reals pull with 1 - D(x), fakes with D(G(z)).
    d_saturation=(0.625 + 0.5) / 2,
  )
  assert got.keys() == expected.keys()
  for name, value in expected.items():
    close(got[name], value)


def test_least_squares_has_a_half_of_its_own():
  """Its D(x) is the logit, and one half is .5, not 0."""
  real = jnp.array([0.25, 1.0])
  fake = jnp.array([0.25, 0.0])
  got = measurements.of_logits(losses.get("least_squares"), real, fake)
  close(got["d_real"], 0.625)
  close(got["d_fake"], 0.125)
  close(got["d_real_accuracy"], 0.5)
  close(got["d_fake_accuracy"], 1.0)
  # Pulls 2|r - 1| = 1.5, more than a linear loss's, and 0; 2|f| = .5 and 0.
  close(got["d_saturation"], (0.5 + 0.75) / 2)


@pytest.mark.parametrize(
  ("name", "saturation"),
  [
    ("minimax", 1 - (0.25 + 0.75) / 2),
    ("non_saturating", (0.25 + 0.75) / 2),
    ("wasserstein", 0.0),
    ("hinge", 0.0),
  ],
)
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_generator_by_hand(name, saturation, weight):
  loss = losses.get(name, g_weight=weight)
  close(measurements.of_generator(loss, REAL, FAKE)["g_saturation"], saturation)


def test_what_the_minimax_generator_loses_is_one_minus_d():
  fake = jnp.array([-9.0, -2.0, 0.5, 4.0])
  loss = losses.get("minimax")
  got = measurements.saturation(
    loss.generator, jnp.zeros(4), fake, argnum=1, weight=1.0
  )
  close(got, 1 - jax.nn.sigmoid(fake).mean())


def test_a_hinge_pulls_within_its_margin_only():
  loss = losses.get("hinge")
  inside = jnp.array([0.5, 0.0])
  beyond = jnp.array([1.5, 9.0])
  for real, fake, expected in (
    (beyond, -beyond, 1.0),
    (inside, -inside, 0.0),
    (beyond, -inside, 0.5),
    (jnp.array([0.0, 2.0]), -inside, 0.25),
  ):
    close(measurements.of_logits(loss, real, fake)["d_saturation"], expected)


def test_weights_divide_out():
  plain = measurements.of_logits(losses.get("non_saturating"), REAL, FAKE)
  loss = losses.get("non_saturating", d_weight=0.5, g_weight=2.0)
  for name, value in measurements.of_logits(loss, REAL, FAKE).items():
    close(value, plain[name])


@pytest.mark.parametrize(
  "loss",
  [losses.get("wasserstein"), losses.get("hinge", relativism="average")],
)
def test_a_shift_of_all_logits_says_nothing(loss):
  plain = measurements.of_logits(loss, REAL, FAKE)
  # D(x) counts from the middle of both means, LOG3 / 4.
  close(plain["d_real"], loss.probability(REAL - LOG3 / 4).mean(), rtol=1e-5)
  for name, value in measurements.of_logits(loss, REAL + 8, FAKE + 8).items():
    close(value, plain[name], rtol=1e-5)


def test_spread_by_hand():
  rng = np.random.RandomState(0)
  real = jnp.asarray(rng.normal(size=(6, 4, 4, 1)), jnp.float32)

  def spread(fake):
    return measurements.of_images(real, fake)["spread"]

  close(spread(real), 1.0)
  close(spread(jnp.repeat(real[:1], 6, 0)), 0.0)
  # A common offset is no spread, a factor is.
  close(spread(5.0 - 3.0 * real), 3.0, rtol=1e-5)
  points = jnp.array([[0.0, 0.0], [2.0, 0.0]])
  half = jnp.array([[1.0, 0.5], [1.0, -0.5]])
  close(measurements.of_images(points, half)["spread"], 0.5)


def test_stats_name_the_largest_norm():
  def layer(sigma):
    return dict(u=9.0 * jnp.ones(3), sigma=jnp.float32(sigma))

  stats = {"spectral": {"a": layer(2.0), "b": {"c": layer(5.0)}}}
  assert measurements.of_stats("g", stats) == {"g_sigma_max": 5.0}
  assert (
    measurements.of_stats("d", {"batch_stats": {"mean": jnp.ones(())}}) == {}
  )


@pytest.mark.parametrize("num_devices", [2, 4])
def test_devices_do_not_change_what_is_measured(num_devices):
  rng = np.random.RandomState(1)
  real = rng.normal(size=(8, 3)).astype(np.float32)
  fake = 0.5 * rng.normal(size=(8, 3)).astype(np.float32) + 1.0
  loss = losses.get("hinge", relativism="pairing")

  def measure(real, fake):
    real_logits = parallel.gather(real[:, 0])
    fake_logits = parallel.gather(fake[:, 0])
    return {
      **measurements.of_images(real, fake),
      **measurements.of_logits(loss, real_logits, fake_logits),
    }

  mapped = jax.pmap(
    measure, axis_name=parallel.AXIS, devices=jax.devices()[:num_devices]
  )

  def share(x):
    return x.reshape(num_devices, -1, 3)

  got = mapped(share(real), share(fake))
  for name, value in measure(real, fake).items():
    close(got[name], np.full(num_devices, value), rtol=1e-5)
