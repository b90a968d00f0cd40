"""2014's convolutional CIFAR-10 pair: counts, maps, the deconvolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganjax import errors, nets
from ganjax.nets import cnn2014, conv
from ganjax.objectives import schedules
from ganjax.runs import configs

CIFAR, SMALL = (32, 32, 3), (8, 8, 3)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def make(role, shape=CIFAR, z_dim=100, **fields):
  net = nets.get("cnn2014", role, shape, **fields)
  x = jnp.zeros((2, z_dim) if role == "generator" else (2, *shape))
  return net, x


def count(role):
  net, x = make(role)
  params = jax.eval_shape(net.init, KEYS, x)["params"]
  return sum(x.size for x in jax.tree.leaves(params))


def test_parameter_counts():
  # The deconvolution has no bias but that of each pixel.
  layers = 100 * 8000 + 8000, 8000 * 8000 + 8000, 25 * 80 * 3 + 32 * 32 * 3
  assert sum(layers) == 64_825_072
  assert count("generator") == 64_825_072
  # Two pieces of 32, 32 and 192 channels, then five of 500 units.
  layers = 64 * 3 * 64 + 64, 64 * 32 * 64 + 64, 25 * 32 * 384 + 384
  layers += 5 * 5 * 192 * 2500 + 2500, 501
  assert sum(layers) == 12_454_073
  assert count("discriminator") == 12_454_073


def test_maps_of_the_published_sizes():
  """33 -> 16, 15 -> 7 and 9 -> 5: the last window stands over the edge."""
  net, x = make("discriminator")
  _, state = jax.eval_shape(
    lambda x: net.apply(
      net.init(KEYS, x),
      x,
      rngs=KEYS,
      capture_intermediates=True,
      mutable=["intermediates"],
    ),
    x,
  )
  seen = state["intermediates"]
  shapes = [seen[f"Conv_{i}"]["__call__"][0].shape[1:] for i in range(3)]
  assert shapes == [(33, 33, 64), (15, 15, 64), (9, 9, 384)]
  shapes = [seen[f"Dropout_{i}"]["__call__"][0].shape[1:] for i in range(5)]
  assert shapes == [CIFAR, (16, 16, 32), (7, 7, 32), (5, 5, 192), (500,)]
  for size, window, pooled in (33, 4, 16), (15, 4, 7), (9, 2, 5), (3, 4, 1):
    assert -(-max(size - window, 0) // 2) + 1 == pooled
    y = jax.eval_shape(
      lambda x, w=window: cnn2014.pool(x, w), jnp.zeros((1, size, size, 2))
    )
    assert y.shape == (1, pooled, pooled, 2)


def test_windows_over_the_edge_by_hand():
  """Negative numbers: what lies outside must not count as 0."""
  row = jnp.array([-5.0, -1.0, -3.0, -2.0, -4.0])
  column = jnp.array([0.0, -10.0, -20.0])
  x = jnp.tile(row, (3, 1)) + jnp.tile(column, (5, 1)).T
  y = cnn2014.pool(x[None, ..., None], 2)[0, ..., 0]
  np.testing.assert_array_equal(y, [[-1, -2, -4], [-21, -22, -24]])
  y = cnn2014.pool(x[None, ..., None], 4)[0, ..., 0]
  np.testing.assert_array_equal(y, [[-1, -2]])


def test_conv_transpose_equals_the_plain_form():
  """Values and gradients, on a map that is not square."""
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, 4, 3, 5))
  kernel = jax.random.normal(keys[1], (5, 5, 5, 2))
  weight = jax.random.normal(keys[2], (2, 14, 11, 2))
  plain = lambda x, k: lax.conv_transpose(
    x, k, (3, 3), "VALID", dimension_numbers=conv.DIMS
  )

  def both(function):
    total = lambda x, k: jnp.sum(weight * function(x, k) ** 2)
    return function(x, kernel), *jax.grad(total, (0, 1))(x, kernel)

  ours = jax.jit(lambda: both(cnn2014.conv_transpose_5x5))()
  theirs = jax.jit(lambda: both(plain))()
  assert ours[0].shape == weight.shape
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * jnp.abs(b).max())


def test_the_generator_by_hand():
  """One pixel of a 2x2 map, then the biases of the image's pixels."""
  net, z = make("generator", SMALL, z_dim=3, hidden=4, channels=2)
  like = jax.eval_shape(net.init, KEYS, z)["params"]
  params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), like)
  assert params["kernel"].shape == (5, 5, 2, 3)
  bias = jnp.arange(8.0 * 8 * 3).reshape(SMALL)
  # Of the 8 units of the second layer, only the first two are not 0.
  dense = params["Dense_1"] | {
    "bias": jnp.array([0.0, 0.0] + [-1e9] * 6),
    "kernel": jnp.zeros((4, 8)).at[0, 0].set(jnp.log(3.0)),
  }
  first = params["Dense_0"] | {"bias": jnp.array([1.0, -1.0, -1.0, -1.0])}
  kernel = jnp.ones((5, 5, 2, 3)).at[:, :, 1].set(0.5)
  params |= dict(Dense_0=first, Dense_1=dense, kernel=kernel, bias=bias)
  images = jax.jit(net.apply)({"params": params}, z)
  # sigmoid(log 3) + sigmoid(0) / 2 where the patch of pixel (0, 0) is.
  expected = np.array(bias)
  expected[:5, :5] += 0.75 + 0.5 / 2
  np.testing.assert_allclose(images[1], expected, rtol=1e-6)


def test_initialisation_and_dropout():
  net, z = make("generator", SMALL, z_dim=16, hidden=32, channels=8)
  params = jax.device_get(jax.jit(net.init)(KEYS, z)["params"])
  for kernel in params["Dense_0"]["kernel"], params["kernel"]:
    assert 0.049 < np.abs(kernel).max() <= 0.05
  assert not params["bias"].any()
  small = dict(channels=(4, 4, 4), hidden=8)
  net, x = make("discriminator", SMALL, **small)
  params = jax.device_get(jax.jit(net.init)(KEYS, x)["params"])
  for name, layer in params.items():
    assert 0.0045 < np.abs(layer["kernel"]).max() <= 0.005 or name == "output"
    assert not layer["bias"].any()

  @jax.jit
  def masks(key):
    _, state = net.apply(
      {"params": jax.tree.map(lambda x: x + 0.01, params)},
      jnp.ones((64, *SMALL)),
      rngs={"dropout": key},
      capture_intermediates=True,
      mutable=["intermediates"],
    )
    return state["intermediates"]

  seen = jax.device_get(masks(jax.random.key(2)))
  for i, rate in enumerate((0.2, 0.5, 0.5, 0.5, 0.5)):
    after = seen[f"Dropout_{i}"]["__call__"][0]
    assert abs((after == 0).mean() - rate) < 0.06, i
  assert set(np.unique(seen["Dropout_0"]["__call__"][0])) == {0.0, 1.25}


def test_the_settings_of_the_experiment():
  """Half the rate after 173,287 steps; momentum moves after 312."""
  config = configs.resolve(configs.load("cifar_2014_conv")).to_dict()
  assert config["batch_size"] == 128 and config["loss"]["d_weight"] == 0.5
  for player in "g_opt", "d_opt":
    rate = schedules.get_schedule(**config[player]["learning_rate"])
    np.testing.assert_allclose(rate(0), 0.004, rtol=1e-6)
    np.testing.assert_allclose(rate(173_287), 0.002, rtol=1e-5)
    momentum = schedules.get_schedule(**config[player]["momentum"])
    np.testing.assert_allclose(momentum(311), 0.5, rtol=1e-6)
    np.testing.assert_allclose(momentum(312), 0.5 + 0.2 / 249, rtol=1e-6)
    np.testing.assert_allclose(momentum(10**6), 0.7, rtol=1e-6)


def test_mistakes_are_named():
  for role in "generator", "discriminator":
    for shape in (28, 28, 1), (32, 35, 3), (5, 5, 1), (2,):
      net, x = make(role, shape)
      with pytest.raises(errors.UserError, match="set config.dataset.size=32"):
        jax.eval_shape(net.init, KEYS, x)
