"""Spectral norm: what it divides by, when it iterates, what it leaves alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import layers, spectral

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).uniform(-1, 1, (16, *SHAPE))
IMAGES = IMAGES.astype(np.float32)


def matrix(kernel):
  return np.asarray(kernel).reshape(-1, kernel.shape[-1])


def largest(kernel):
  return np.linalg.svd(matrix(kernel), compute_uv=False)[0]


def iterate(kernel, u, times=1):
  """Power iterations by hand; returns u, v and the norm u W v."""
  w, v = matrix(kernel), np.zeros(0)
  for _ in range(times):
    v = w @ u / np.linalg.norm(w @ u)
    u = v @ w / np.linalg.norm(v @ w)
  return u, v, v @ w @ u


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


LAYERS = {
  "Dense": (lambda: nn.Dense(5), (4, 7)),
  "Conv": (lambda: nn.Conv(6, (3, 3), strides=(2, 2)), (2, 6, 6, 3)),
  "ConvTranspose": (lambda: layers.ConvTranspose(3), (2, 3, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernel_gets_norm_one(name):
  make_layer, shape = LAYERS[name]
  x = jax.random.normal(jax.random.key(1), shape)

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return spectral.SpectralNorm(make_layer())(x)

  net = Net()
  variables = jax.jit(net.init)(jax.random.key(0), x)
  (layer,) = variables["params"]
  assert layer == f"{name}_0"
  params = variables["params"][layer]
  params = {"kernel": 3.0 * params["kernel"], "bias": params["bias"] + 1.0}
  variables = {**variables, "params": {layer: params}}
  step = jax.jit(functools.partial(net.apply, mutable=["spectral"]))
  for _ in range(200):
    y, new = step(variables, x)
    variables = {**variables, **new}
  (norm,) = variables["spectral"].values()
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  close(norm["sigma"], largest(params["kernel"]))
  # The layer acts with the kernel of norm one, and with the bias as it is.
  kernel = np.asarray(params["kernel"] / norm["sigma"])
  close(largest(kernel), 1.0)
  plain = jax.jit(make_layer().apply)
  close(y, plain({"params": {**params, "kernel": kernel}}, x))


def test_three_iterations_a_pass():
  net = spectral.SpectralNorm(nn.Dense(4, use_bias=False), iterations=3)
  x, kernel = jnp.ones((2, 6)), jax.random.normal(jax.random.key(1), (6, 4))
  variables = jax.jit(net.init)(jax.random.key(0), x)
  u = np.asarray(variables["spectral"]["u"])
  variables = {**variables, "params": {"layer": {"kernel": kernel}}}
  _, new = jax.jit(functools.partial(net.apply, mutable=["spectral"]))(
    variables, x
  )
  expected = iterate(kernel, u, 3)
  for name, value in zip(("u", "v", "sigma"), expected, strict=True):
    np.testing.assert_allclose(new["spectral"][name], value, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1), (1, 2)])
def test_the_gradient_goes_through_the_norm(shape):
  """Of y = x . W / |W|: dy/dW = (x - (x . n) n) / |W| with n = W / |W|."""
  net = spectral.SpectralNorm(nn.Dense(shape[1], use_bias=False))
  kernel = jnp.array([3.0, -4.0]).reshape(shape)
  x = jnp.array([[1.0, 2.0]])[:, : shape[0]]
  # Weights of the outputs, in the place of a loss.
  g = jnp.array([[1.0, 2.0]])[:, : shape[1]]
  stats = {"spectral": jax.jit(net.init)(jax.random.key(0), x)["spectral"]}

  def loss(kernel):
    params = {"layer": {"kernel": kernel}}
    y, _ = net.apply({"params": params, **stats}, x, mutable=["spectral"])
    return (g * y).sum()

  n = np.array([0.6, -0.8])
  outer = np.array([1.0, 2.0])  # x times g, whichever of them has two.
  value, grads = jax.jit(jax.value_and_grad(loss))(kernel)
  np.testing.assert_allclose(value, outer @ n, rtol=1e-6)
  expected = ((outer - (outer @ n) * n) / 5).reshape(shape)
  np.testing.assert_allclose(grads, expected, rtol=1e-5, atol=1e-7)


def discriminator(norm="spectral", **fields):
  return nets.get("dcgan", "discriminator", SHAPE, width=3, norm=norm, **fields)


def init(net):
  return jax.jit(net.init)(jax.random.key(0), IMAGES[:2])


def test_the_parameters_are_those_of_the_plain_net():
  plain, wrapped = init(discriminator("none")), init(discriminator())
  assert plain.keys() == {"params"}
  assert_equal(plain["params"], wrapped["params"])
  assert wrapped.keys() == {"params", "spectral"}
  vectors = wrapped["spectral"]
  assert len(vectors) == len(plain["params"]) == 2
  for name, stored in vectors.items():
    assert stored.keys() == {"u", "v", "sigma"}
    assert "/" not in name
    for key, ndim in (("u", 1), ("v", 1), ("sigma", 0)):
      assert stored[key].ndim == ndim and stored[key].dtype == jnp.float32


def test_evaluation_does_not_iterate():
  net = discriminator()
  variables = init(net)
  evaluate = jax.jit(functools.partial(net.apply, train=False, mutable=[]))
  y, new = evaluate(variables, IMAGES)
  assert not new
  assert_equal(evaluate(variables, IMAGES)[0], y)
  train_pass = jax.jit(functools.partial(net.apply, mutable=["spectral"]))
  _, new = train_pass(variables, IMAGES)
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), new["spectral"], variables["spectral"]
  )
  assert max(jax.tree.leaves(moved)) > 0
  # Neither does training where the collection is not mutable.
  same = jax.jit(net.apply)(variables, IMAGES)
  np.testing.assert_allclose(same.logits, y.logits, 1e-6)
  np.testing.assert_allclose(same.features, y.features, 1e-6)


def test_the_head_can_be_left_out():
  """A kernel twice as large changes a plain layer's output alone."""
  for skip, factor in ((("head",), 2.0), ((), 1.0)):
    net = discriminator(spectral_skip=skip)
    variables = init(net)
    assert len(variables["spectral"]) == 2 - len(skip)
    params = dict(variables["params"])
    assert params.keys() == {"Conv_0", "Dense_0"}
    head = params["Dense_0"]
    params["Dense_0"] = {**head, "kernel": 2.0 * head["kernel"]}
    apply = jax.jit(net.apply)
    y = apply(variables, IMAGES).logits
    twice = apply({**variables, "params": params}, IMAGES).logits
    np.testing.assert_allclose(twice, factor * y, rtol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'spectral'"):
    init(discriminator("spectrl"))
  with pytest.raises(errors.UserError, match="did you mean 'head'"):
    init(discriminator(spectral_skip=("haed",)))
