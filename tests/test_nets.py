"""Shapes, published parameter counts, initialisations, exact rewrites."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import conv, layers


def init(name, role, shape, z_dim=16, **fields):
  net = nets.get(name, role, shape, **fields)
  x = jnp.zeros((2, z_dim) if role == "generator" else (2, *shape))
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return net, jax.jit(net.init)(keys, x), x


def num_params(name, role, shape, z_dim=16):
  net = nets.get(name, role, shape)
  x = jnp.zeros((2, z_dim) if role == "generator" else (2, *shape))
  variables = jax.eval_shape(net.init, jax.random.key(0), x)
  return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", nets.names())
@pytest.mark.parametrize("shape", [(16, 16, 1), (28, 28, 2), (64, 64, 3)])
def test_shapes(name, shape):
  small = dict(width=2) if name == "dcgan" else dict(hidden=(4,))
  for role, expected in ("generator", (2, *shape)), ("discriminator", (2,)):
    net = nets.get(name, role, shape, **small)
    x = jnp.zeros((2, 16) if role == "generator" else (2, *shape))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    y, _ = jax.eval_shape(net.init_with_output, keys, x)
    assert y.shape == expected and y.dtype == jnp.float32


def test_published_parameter_counts():
  """2014's MNIST pair; arch 0 of the relativistic paper at 64 px."""
  mnist, cat = (28, 28, 1), (64, 64, 3)
  assert num_params("mlp", "generator", mnist, 100) == 2_503_984
  assert num_params("mlp", "discriminator", mnist) == 1_231_441
  # Kernels of 1,048,576, 2,097,152, 524,288, 131,072 and 3,072; 1,920 of norm.
  assert num_params("dcgan", "generator", cat, 128) == 3_806_080
  # 3,072, 131,072, 524,288, 2,097,152 and 8,192; 1,792 of norm.
  assert num_params("dcgan", "discriminator", cat) == 2_765_568


def test_initialisation_of_2014():
  _, variables, _ = init("mlp", "generator", (28, 28, 1), z_dim=100)
  for layer in variables["params"].values():
    assert 0.049 < jnp.abs(layer["kernel"]).max() <= 0.05
    assert not layer["bias"].any()
  _, variables, _ = init("mlp", "discriminator", (28, 28, 1))
  kernel = variables["params"]["Dense_0"]["kernel"]
  assert 0.0049 < jnp.abs(kernel).max() <= 0.005


def test_output_bias_is_the_logit_of_the_mean_image():
  net, variables, _ = init("mlp", "generator", (2, 2, 1), hidden=(4,))
  images = jnp.array([[0.0, 0.5, 1.0, 0.25], [0.0, 0.5, 1.0, 0.75]])
  params = net.init_from_data(variables["params"], images.reshape(2, 2, 2, 1))
  # With z = 0 the hidden layer is 0 and the output is its bias.
  image = net.apply({"params": params}, jnp.zeros((1, 16)))
  np.testing.assert_allclose(image.ravel(), [0, 0.5, 1, 0.5], atol=2e-7)


def test_maxout_takes_the_largest_piece():
  net, variables, _ = init(
    "mlp", "discriminator", (1, 2, 1), hidden=(1,), pieces=2, dropout=0.0
  )
  params = {
    "Dense_0": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)},
    "output": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
  }
  x = jnp.array([[1.0, 3.0], [-5.0, -2.0]]).reshape(2, 1, 2, 1)
  logits = net.apply({"params": params}, x, train=False)
  np.testing.assert_allclose(logits, [3.0, -2.0])


def test_dropout_keeps_the_mean_and_differs_by_example():
  drop = layers.Dropout(0.5)
  x = jnp.ones((64, 256))
  y = drop.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
  assert set(np.unique(y)) == {0.0, 2.0}
  assert abs(y.mean() - 1.0) < 0.05
  assert (y[0] != y[1]).any()
  assert (drop.apply({}, x, False) == x).all()


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (1, 5, 3, 2)])
def test_conv_transpose_equals_the_plain_form(shape):
  """Values, first and second derivatives."""
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], shape)
  kernel = jax.random.normal(keys[1], (4, 4, shape[-1], 5))
  plain = lambda x, k: jax.lax.conv_transpose(
    x, k, (2, 2), "SAME", dimension_numbers=conv.DIMS
  )
  y = plain(x, kernel)
  weight = jax.random.normal(keys[2], y.shape)
  np.testing.assert_allclose(conv.conv_transpose_4x4(x, kernel), y, atol=1e-5)

  def first(function):
    return jax.grad(
      lambda x, k: jnp.sum(weight * function(x, k) ** 2), argnums=(0, 1)
    )

  def second(function):
    square = lambda *a: sum(jnp.sum(g**2) for g in first(function)(*a))
    return jax.grad(square, argnums=(0, 1))

  for derivative in first, second:
    ours = derivative(conv.conv_transpose_4x4)(x, kernel)
    theirs = derivative(plain)(x, kernel)
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * jnp.abs(b).max())


def test_conv_transpose_layer_equals_flax():
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  flax_layer = nn.ConvTranspose(6, (4, 4), (2, 2))
  variables = flax_layer.init(jax.random.key(1), x)
  params = variables["params"] | {"bias": jnp.arange(6.0)}
  ours = layers.ConvTranspose(6).apply({"params": params}, x)
  theirs = flax_layer.apply({"params": params}, x)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_mistakes_are_named():
  with pytest.raises(errors.UserError, match="did you mean 'dcgan'"):
    nets.get("dcgn", "generator", (16, 16, 1))
  with pytest.raises(errors.UserError, match="role"):
    nets.get("dcgan", "encoder", (16, 16, 1))
  with pytest.raises(errors.UserError, match="square images"):
    init("dcgan", "generator", (18, 18, 1))
