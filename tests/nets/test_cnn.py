"""The relativistic paper's CNN: counts, layers one by one, initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganjax import errors, nets
from ganjax.nets import conv

CIFAR, Z_DIM = (32, 32, 3), 128


def abstract(role, shape=CIFAR, **fields):
  net = nets.get("cnn", role, shape, **fields)
  x = jnp.zeros((2, Z_DIM) if role == "generator" else (2, *shape))
  return jax.eval_shape(net.init_with_output, jax.random.key(0), x)


def count(role, **fields):
  _, variables = abstract(role, **fields)
  return sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_published_parameter_counts():
  """Kernels with biases and, with batch norm, a scale and a shift each."""
  up = 128 * 8192 + 8192, 8192 * 256 + 256, 4096 * 128 + 128, 2048 * 64 + 64
  plain = sum(up) + 9 * 64 * 3 + 3
  norm = 2 * (256 + 128 + 64)
  assert plain + norm == 3_812_355
  assert count("generator") == plain + norm
  assert count("generator", norm="none") == plain
  layers = (3, 9, 64), (64, 16, 64), (64, 9, 128), (128, 16, 128)
  layers += (128, 9, 256), (256, 16, 256), (256, 9, 512), (512, 16, 1)
  plain = sum(before * size * after + after for before, size, after in layers)
  assert plain == 2_935_873
  for fields in {}, dict(norm="none"), dict(spectral_skip=()):
    assert count("discriminator", **fields) == plain
  norm = 2 * 2 * (64 + 128 + 256)
  assert count("discriminator", norm="batch") == plain + norm


def test_spectral_norm_of_the_convolutions_alone():
  _, variables = abstract("discriminator")
  assert len(jax.tree.leaves(variables["spectral"])) == 7 * 3
  _, variables = abstract("discriminator", spectral_skip=())
  assert len(jax.tree.leaves(variables["spectral"])) == 8 * 3
  assert "batch_stats" in abstract("discriminator", norm="batch")[1]


@pytest.fixture(scope="module")
def pair():
  """Both players, narrow and without normalisation, with their parameters."""
  players, params, rng = {}, {}, np.random.RandomState(0)
  draw = lambda x: jnp.float32(rng.normal(size=x.shape) / 4)
  for role in "generator", "discriminator":
    net = nets.get("cnn", role, (16, 16, 3), width=4, norm="none")
    x = jnp.zeros((1, 5) if role == "generator" else (1, 16, 16, 3))
    like = jax.eval_shape(net.init, jax.random.key(0), x)["params"]
    params[role] = jax.tree.map(draw, like)
    players[role] = net
  return players, params


@jax.jit
def generator_by_hand(params, z):
  # Nothing but a linear map before the first transposed convolution.
  x = z @ params["Dense_0"]["kernel"] + jnp.tile(
    params["Dense_0"]["bias"], (2, 1)
  )
  x = x.reshape(2, 2, 2, 32)
  for i in range(3):
    kernel = params[f"ConvTranspose_{i}"]["kernel"]
    x = lax.conv_transpose(
      x, kernel, (2, 2), "SAME", dimension_numbers=conv.DIMS
    )
    x = jax.nn.relu(x + jnp.broadcast_to(params[f"bias_{i}"], x.shape))
  x = lax.conv_general_dilated(
    x,
    params["Conv_0"]["kernel"],
    (1, 1),
    [(1, 1)] * 2,
    dimension_numbers=conv.DIMS,
  )
  return jnp.tanh(x + jnp.broadcast_to(params["Conv_0"]["bias"], x.shape))


def test_the_generator_layer_by_layer(pair):
  net, params = pair[0]["generator"], pair[1]["generator"]
  z = jax.random.normal(jax.random.key(2), (2, 5))
  got = jax.jit(net.apply)({"params": params}, z)
  np.testing.assert_allclose(got, generator_by_hand(params, z), atol=1e-5)


@jax.jit
def discriminator_by_hand(params, images):
  x = images
  for i in range(7):
    layer, size = params[f"Conv_{i}"], (3, 4)[i % 2]
    assert layer["kernel"].shape[0] == size
    strides = (1 + i % 2,) * 2
    x = lax.conv_general_dilated(
      x, layer["kernel"], strides, [(1, 1)] * 2, dimension_numbers=conv.DIMS
    )
    x = x + jnp.broadcast_to(layer["bias"], x.shape)
    x = jnp.where(x > 0, x, 0.1 * x)
  head = params["Dense_0"]
  return (x.reshape(2, -1) @ head["kernel"])[:, 0] + head["bias"][0]


def test_the_discriminator_layer_by_layer(pair):
  net, params = pair[0]["discriminator"], pair[1]["discriminator"]
  images = jax.random.normal(jax.random.key(2), (2, 16, 16, 3))
  got = jax.jit(net.apply)({"params": params}, images)
  expected = discriminator_by_hand(params, images)
  np.testing.assert_allclose(got.logits, expected, rtol=1e-4)


def test_initialisation():
  """N(0, .02) and PyTorch's U(+-1 / sqrt(fan_in)); scales N(1, .02)."""
  net = nets.get("cnn", "generator", (16, 16, 3), width=32)
  variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 64)))
  params = jax.device_get(variables["params"])
  for layer in "ConvTranspose_0", "ConvTranspose_1", "Conv_0":
    assert abs(params[layer]["kernel"].std() - 0.02) < 2e-3
  bounds = [
    (params["Dense_0"]["kernel"], 64),
    (params["Dense_0"]["bias"], 64),
    (params["bias_0"], 128 * 16),  # Outputs times 4x4, as PyTorch has it.
    (params["bias_2"], 32 * 16),
    (params["Conv_0"]["bias"], 32 * 9),
  ]
  for x, fan_in in bounds:
    largest = np.abs(x).max() * fan_in**0.5
    assert (0.8 if x.size > 8 else 0.1) < largest <= 1
  scale = params["BatchNorm_0"]["scale"]
  assert abs(scale.mean() - 1) < 0.01 and 0.014 < scale.std() < 0.026
  net = nets.get("cnn", "discriminator", (8, 8, 3), width=8, norm="batch")
  variables = jax.jit(net.init)(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
  params = jax.device_get(variables["params"])
  assert len([name for name in params if "BatchNorm" in name]) == 6
  for x, fan_in in (
    (params["Conv_1"]["bias"], 8 * 16),
    (params["Conv_6"]["bias"], 32 * 9),
    (params["Dense_0"]["kernel"], 64),
  ):
    assert 0.8 < np.abs(x).max() * fan_in**0.5 <= 1


def test_tanh_takes_the_place_of_every_activation():
  shape = (8, 8, 1)

  def num_tanh(role, **fields):
    net = nets.get("cnn", role, shape, width=1, norm="none", **fields)
    x = jnp.zeros((1, 2) if role == "generator" else (1, *shape))
    variables = jax.eval_shape(net.init, jax.random.key(0), x)
    return str(jax.make_jaxpr(net.apply)(variables, x)).count("= tanh")

  assert num_tanh("generator", activation="tanh") == 4
  assert num_tanh("discriminator", activation="tanh") == 7
  # The output's tanh stays.
  assert num_tanh("generator") == 1
  assert num_tanh("discriminator") == 0


def test_sizes_and_mistakes():
  for size in 8, 48, 64:
    y, _ = abstract("generator", (size, size, 1), width=2)
    assert y.shape == (2, size, size, 1)
    y, _ = abstract("discriminator", (size, size, 1), width=2)
    assert y.logits.shape == (2,)
  for role in "generator", "discriminator":
    for shape in (28, 28, 1), (16, 24, 1), (2,), (4, 4, 1):
      with pytest.raises(errors.UserError, match="multiple of 8 pixels"):
        abstract(role, shape)
    with pytest.raises(errors.UserError, match="unknown norm"):
      abstract(role, norm="layer")
    with pytest.raises(errors.UserError, match="unknown activation"):
      abstract(role, activation="sine")
