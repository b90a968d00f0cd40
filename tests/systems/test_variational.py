"""The VAE's terms, and its bounds and gradients where they are known."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from ganjax import data, errors, nets
from ganjax.objectives import optimizers
from ganjax.state import NetState, State
from ganjax.systems import vae

# What scipy's types say of frozen distributions is not so.
norm: Any = stats.norm
coin: Any = stats.bernoulli


def make(shape, **options: Any):
  """The VAE of two networks of one layer each."""
  get = functools.partial(nets.get, "mlp", image_shape=shape, hidden=())
  sgd = optimizers.get("sgd", learning_rate=1.0)
  decoder = get(role="decoder", output="linear")
  encoder = get(role="encoder")
  return vae.VAE(encoder=encoder, decoder=decoder, opt=sgd, **options)


@pytest.mark.parametrize(("mean", "var"), [(0.0, 1.0), (1.5, 0.3), (-0.4, 2.5)])
def test_kl_is_the_integral(mean, var):
  q, p = norm(mean, var**0.5), norm()
  expected, _ = integrate.quad(
    lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -12, 12
  )
  log_var = np.log(var)
  one = vae.kl_divergence(jnp.array([[mean, 0.0]]), jnp.array([[log_var, 0.0]]))
  np.testing.assert_allclose(one, [expected], atol=1e-6)
  # The units of z add up; each image has its own.
  three = vae.kl_divergence(
    jnp.array([[mean] * 3, [0.0] * 3]), jnp.array([[log_var] * 3, [0.0] * 3])
  )
  np.testing.assert_allclose(three, [3 * expected, 0.0], atol=1e-5)


def test_likelihoods_are_those_of_scipy():
  rng = np.random.RandomState(0)
  output = jnp.float32(rng.randn(3, 4, 2))
  x = jnp.float32(rng.randn(3, 4, 2))
  gaussian = vae.get_likelihood("gaussian", 0.3)
  expected = norm(output, 0.3).logpdf(x).sum((1, 2))
  np.testing.assert_allclose(gaussian.log_prob(output, x), expected, rtol=1e-5)
  np.testing.assert_array_equal(gaussian.mean(output), output)
  bernoulli, p = (
    vae.get_likelihood("bernoulli"),
    1 / (1 + np.exp(-output)),
  )
  bits = jnp.float32(x > 0)
  expected = coin(p).logpmf(bits).sum((1, 2))
  np.testing.assert_allclose(bernoulli.log_prob(output, bits), expected, 1e-5)
  np.testing.assert_allclose(bernoulli.mean(output), p, rtol=1e-5)
  # A pixel between is a share of both; far logits stay finite.
  half = bernoulli.log_prob(
    jnp.array([[0.7], [-200.0]]), jnp.array([[0.25]] * 2)
  )
  by_hand = -0.25 * np.log1p(np.exp(-0.7)) - 0.75 * np.log1p(np.exp(0.7))
  np.testing.assert_allclose(half, [by_hand, -50.0], rtol=1e-5)


# x = W z + b + noise. The columns of W are orthogonal, so that the posterior
# is a product and a linear encoder can be exact.
W = np.array([[1.0, 0.4], [0.8, -0.5], [0.2, 0.0]])
B = np.array([0.3, -0.2, 0.1])
SIGMA = 0.8
VAR = 1 / (1 + (W**2).sum(0) / SIGMA**2)  # of the posterior
normal: Any = stats.multivariate_normal
X = normal(B, W @ W.T + SIGMA**2 * np.eye(3))


def linear(shift=0.0, log_scale=0.0):
  """The model, with an encoder that errs by these, and 64 images of it."""
  system = make((3,), z_dim=2, likelihood="gaussian", sigma=SIGMA)
  to_mean = W * VAR / SIGMA**2
  kernel = np.concatenate([to_mean, np.zeros((3, 2))], 1)
  bias = np.concatenate([shift - B @ to_mean, np.log(VAR) + log_scale])
  state = state_of(system, (kernel, bias), (W.T, B))
  return system, state, jnp.float32(X.rvs(64, random_state=0))


def state_of(system, encoder, decoder) -> Any:
  """Returns the state of networks of one layer, of (kernel, bias) each."""
  opt = system.opt

  def net(layer):
    kernel, bias = map(jnp.float32, layer)
    params = {"output": dict(kernel=kernel, bias=bias)}
    return NetState(params=params, stats={}, opt_state=opt.init(params))

  return State.create({"encoder": net(encoder), "decoder": net(decoder)})


def bound_of(system, state, images, k):
  bound = jax.jit(functools.partial(system.importance_bound, k=k))
  return np.asarray(bound(state, images, jax.random.key(0)))


def test_the_exact_posterior_gives_log_p():
  system, state, images = linear()
  score: Any = system.score
  expected = X.logpdf(images)
  # Whatever z: p(x, z) / q(z|x) is p(x).
  bound = bound_of(system, state, images, 5)
  np.testing.assert_allclose(bound, expected, atol=1e-4)
  scores = np.asarray(jax.jit(score)(state, images))
  assert np.abs(scores - expected).max() < 0.4
  # What is left is the noise's own, the same for all images.
  assert np.ptp(scores - expected) < 1e-4


def test_bounds_rise_to_log_p():
  system, state, images = linear(shift=0.4, log_scale=0.7)
  log_p = X.logpdf(images).mean()
  tiled = jnp.tile(images, (64, 1))
  one, five, fifty = (
    bound_of(system, state, tiled, k).mean() for k in (1, 5, 50)
  )
  # The ELBO in closed form: log p(x) - KL(q || exact posterior).
  ratio = np.exp(0.7)
  gap = 0.5 * (ratio - 1 - 0.7 + 0.4**2 / VAR).sum()
  assert abs(one - (log_p - gap)) < 0.1
  assert one + 0.1 < five < fifty < log_p + 0.01
  assert log_p - fifty < 0.05
  score: Any = system.score
  mean = jax.jit(score)(state, images).mean()
  assert abs(mean - (log_p - gap)) < 0.5


def test_the_gradient_is_the_analytic_one():
  """One step of SGD at rate 1 on images of one pixel."""
  beta = 4.0
  system = make(
    (1,),
    z_dim=1,
    likelihood="gaussian",
    sigma=0.5,
    beta=beta,
    samples_per_image=20_000,
  )
  x = np.array([0.9, -0.3])
  encoder, decoder = ([[0.7, 0.0]], [0.2, -1.0]), ([[1.3]], [0.0])
  state = state_of(system, encoder, decoder)
  new, metrics = jax.jit(system.train_step)(
    state, data.Arrays(jnp.float32(x[None, :, None])), jax.random.key(1)
  )
  mean, var, w = 0.7 * x + 0.2, np.exp(-1.0), 1.3
  error, precision = x - w * mean, 1 / 0.5**2
  squares = error**2 + w**2 * var  # E (x - w z)^2
  log_prob = -0.5 * (precision * squares + np.log(2 * np.pi / precision)).mean()
  kl = 0.5 * (var + mean**2 - 1 + 1.0).mean()
  names = "train_log_likelihood", "train_kl", "train_elbo", "loss"
  found = [metrics[k] for k in names]
  wanted = [log_prob, kl, log_prob - kl, beta * kl - log_prob]
  np.testing.assert_allclose(found, wanted, rtol=0.01)
  by_mean = precision * w * error - beta * mean
  by_log_var = -0.5 * precision * w**2 * var - 0.5 * beta * (var - 1)
  by_w = (precision * (error * mean - w * var)).mean()
  moved = jax.tree.map(lambda a, b: np.asarray(a - b), new, state)
  np.testing.assert_allclose(
    moved.nets["encoder"].params["output"]["bias"],
    [by_mean.mean(), by_log_var],
    atol=0.06,
  )
  np.testing.assert_allclose(
    moved.nets["encoder"].params["output"]["kernel"][0, 0],
    (by_mean * x).mean(),
    atol=0.06,
  )
  np.testing.assert_allclose(
    moved.nets["decoder"].params["output"]["kernel"], [[by_w]], atol=0.1
  )


def test_an_idle_unit_is_not_active():
  system, state, images = linear()
  step, real = jax.jit(system.train_step), data.Arrays(images[None])
  encoder = state.nets["encoder"]
  idle = jax.tree.map(lambda x: x.at[..., 1].set(0.0), encoder.params)
  for params, count in ((encoder.params, 2), (idle, 1)):
    now = state.replace_nets(encoder=encoder.replace(params=params))
    _, metrics = step(now, real, jax.random.key(0))
    assert metrics["active_units"] == count


def test_mistakes_are_named():
  system, state, images = linear()
  with pytest.raises(errors.UserError, match="k=0"):
    bound_of(system, state, images, 0)
