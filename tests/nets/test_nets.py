"""Shapes, published parameter counts, initialisations, exact rewrites."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import conv, dcgan, layers


def init(name, role, shape, z_dim=16, **fields):
  net = nets.get(name, role, shape, **fields)
  made = role in ("generator", "decoder")
  x = jnp.zeros((2, z_dim) if made else (2, *shape))
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  return net, jax.jit(net.init)(keys, x), x


def abstract(name, role, shape, z_dim=16, num_classes=0, **fields):
  """Returns the shapes of a net's output and of its parameters."""
  net = nets.get(name, role, shape, num_classes=num_classes, **fields)
  made = role in ("generator", "decoder")
  x = jnp.zeros((2, z_dim) if made else (2, *shape))
  labels = jnp.zeros(2, jnp.int32) if num_classes else None
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  y, variables = jax.eval_shape(net.init_with_output, keys, x, labels)
  return y, variables["params"]


def num_params(*args, **fields):
  return sum(x.size for x in jax.tree.leaves(abstract(*args, **fields)[1]))


SHAPES = (16, 16, 1), (28, 28, 2), (32, 32, 3), (64, 64, 3)


@pytest.mark.parametrize("name", nets.names())
def test_shapes(name):
  """Every net takes CIFAR-10's images, and says of others what it takes."""
  fitting = dict(generator=[], discriminator=[])
  for role, found in fitting.items():
    for shape in SHAPES:
      try:
        y, _ = abstract(name, role, shape, z_dim=128, num_classes=10)
      except errors.UserError as error:
        assert name in str(error)
        continue
      y = y if role == "generator" else y.logits
      assert y.shape == ((2, *shape) if role == "generator" else (2,))
      assert y.dtype == jnp.float32
      found.append(shape)
  for found in fitting.values():
    assert (32, 32, 3) in found
    assert found == [*SHAPES] or name not in ("mlp", "dcgan")


STAGE_1 = dict(
  hidden=(8000, 8000),
  activation="relu,sigmoid",
  sigmoid_bias=-2.0,
  output_nonzero=100,
)


def test_published_parameter_counts_of_2014():
  mnist, tfd, cifar = (28, 28, 1), (48, 48, 1), (32, 32, 3)
  assert num_params("mlp", "generator", mnist, 100) == 2_503_984
  assert num_params("mlp", "discriminator", mnist) == 1_231_441
  first, second = 100 * 8000 + 8000, 8000 * 8000 + 8000
  stage_1 = first + second + 8000 * 2304 + 2304
  assert stage_1 == 83_250_304
  assert num_params("mlp", "generator", tfd, 100, **STAGE_1) == stage_1
  stage_2 = STAGE_1 | dict(front=(8000, 100))
  count = first + 8000 * 100 + 100 + stage_1
  assert count == 84_858_404
  assert num_params("mlp", "generator", tfd, 100, **stage_2) == count
  count = first + second + 8000 * 3072 + 3072
  assert count == 89_395_072
  wide = dict(hidden=(8000, 8000), activation="relu,sigmoid", output="linear")
  got = num_params("mlp", "generator", cifar, 100, output_range=0.5, **wide)
  assert got == count
  for shape, units, count in (tfd, 1200, 21_037_201), (cifar, 1600, 37_393_601):
    pixels, wide = shape[0] ** 2 * shape[2], 5 * units
    assert (pixels + 1) * wide + (units + 1) * wide + units + 1 == count
    net = "mlp", "discriminator", shape
    assert num_params(*net, hidden=(units, units)) == count


def test_published_parameter_counts_of_arch_0():
  """The relativistic paper's DCGANs for cats."""
  cat = (64, 64, 3)
  # Kernels of 1,048,576, 2,097,152, 524,288, 131,072 and 3,072; 1,920 of norm.
  assert num_params("dcgan", "generator", cat, 128) == 3_806_080
  # 3,072, 131,072, 524,288, 2,097,152 and 8,192; 1,792 of norm.
  assert num_params("dcgan", "discriminator", cat) == 2_765_568
  cat = (128, 128, 3)
  # 2,097,152, 8,388,608, 2,097,152, 524,288, 131,072 and 3,072; 3,968 of norm.
  assert num_params("dcgan", "generator", cat, 128) == 13_245_312
  # 3,072, 131,072, 524,288, 2,097,152, 8,388,608 and 16,384; 3,840 of norm.
  assert num_params("dcgan", "discriminator", cat) == 11_164_416
  cat = (256, 256, 3)
  # 2,097,152, 8,388,608, 2,097,152, 524,288, 131,072, 32,768 and 1,536; 4,032.
  assert num_params("dcgan", "generator", cat, 128, width=32) == 13_276_608
  # 3,072 of 6 channels, 32,768, 131,072, 524,288, 2,097,152, 8,388,608 and
  # 16,384; 3,968 of norm.
  packs = dict(width=32, pack=2)
  assert num_params("dcgan", "discriminator", cat, **packs) == 11_197_312


def test_initialisation_of_2014():
  _, variables, _ = init("mlp", "generator", (28, 28, 1), z_dim=100)
  for layer in variables["params"].values():
    assert 0.049 < jnp.abs(layer["kernel"]).max() <= 0.05
    assert not layer["bias"].any()
  _, variables, _ = init("mlp", "discriminator", (28, 28, 1))
  kernel = variables["params"]["Dense_0"]["kernel"]
  assert 0.0049 < jnp.abs(kernel).max() <= 0.005


def test_initialisation_of_2014_s_wider_nets():
  fields = STAGE_1 | dict(hidden=(200, 150), front=(9, 6))
  _, variables, _ = init("mlp", "generator", (4, 4, 1), **fields)
  params = variables["params"]
  for name, bias in dict(
    front_0=0.0, front_1=-2.0, Dense_0=0.0, Dense_1=-2.0
  ).items():
    assert (params[name]["bias"] == bias).all(), name
    assert jnp.abs(params[name]["kernel"]).max() <= 0.05
  kernel = np.asarray(params["output"]["kernel"])
  assert ((kernel != 0).sum(0) == 100).all()
  assert len({tuple(column != 0) for column in kernel.T}) == 16
  weights = kernel[kernel != 0]
  assert abs(weights.mean()) < 0.1 and abs(weights.std() - 1) < 0.1
  fields = dict(hidden=(9, 9), output="linear", output_range=0.5)
  _, variables, _ = init("mlp", "generator", (4, 4, 1), **fields)
  for name, bound in ("Dense_1", 0.05), ("output", 0.5):
    largest = jnp.abs(variables["params"][name]["kernel"]).max()
    assert 0.9 * bound < largest <= bound


def test_activations_by_layer_and_a_net_in_front_of_a_trained_one():
  """The second stage is the first one of what its front makes of z."""
  shape, fields = (2, 3, 1), dict(activation="relu, sigmoid", sigmoid_bias=-2.0)
  first, _, _ = init("mlp", "generator", shape, hidden=(4, 3), **fields)
  fields |= dict(hidden=(4, 3), front=(5, 16))
  second, variables, z = init("mlp", "generator", shape, **fields)
  params = jax.tree.map(lambda x: 10 * x + 0.1, variables["params"])
  z += 1.0
  x = jax.nn.relu(z @ params["front_0"]["kernel"] + 0.1)
  x = jax.nn.sigmoid(x @ params["front_1"]["kernel"] - 19.9)
  rest = {k: v for k, v in params.items() if "front" not in k}
  same = jax.eval_shape(first.init, jax.random.key(0), z)["params"]
  assert jax.tree.map(jnp.shape, rest) == jax.tree.map(jnp.shape, same)
  np.testing.assert_allclose(
    second.apply({"params": params}, z),
    first.apply({"params": rest}, x),
    rtol=1e-6,
  )
  x = jax.nn.relu(x @ rest["Dense_0"]["kernel"] + 0.1)
  x = jax.nn.sigmoid(x @ rest["Dense_1"]["kernel"] - 19.9)
  x = jax.nn.sigmoid(x @ rest["output"]["kernel"] + 0.1)
  image = second.apply({"params": params}, z)
  np.testing.assert_allclose(image.reshape(2, 6), x, rtol=1e-5)
  with pytest.raises(errors.UserError, match="names 3 layers and there are 2"):
    init("mlp", "generator", shape, hidden=(4, 4), activation="relu,relu,tanh")


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
  judged = net.apply({"params": params}, x, train=False)
  np.testing.assert_allclose(judged.logits, [3.0, -2.0])


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


def test_activations():
  x = jnp.array([-2.0, 0.5])
  for name, expected in dict(
    linear=[-2, 0.5], relu=[0, 0.5], leaky_relu=[-0.4, 0.5]
  ).items():
    np.testing.assert_allclose(layers.activation(name)(x), expected)
  steep = layers.activation("leaky_relu", slope=0.1)
  np.testing.assert_allclose(steep(x), [-0.2, 0.5])
  np.testing.assert_allclose(layers.activation("tanh", 0.1)(x), jnp.tanh(x))
  with pytest.raises(errors.UserError, match="did you mean 'tanh'"):
    layers.activation("tnh")


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
    nets.get("cnn", "encoder", (16, 16, 1))
  with pytest.raises(errors.UserError, match="square images"):
    init("dcgan", "generator", (18, 18, 1))


def test_packs_are_channels():
  images = jnp.arange(4.0 * 2 * 2 * 3).reshape(4, 2, 2, 3)
  packs = dcgan.pack(images, 2)
  for i in range(2):
    for j in range(2):
      part = packs[i, ..., 3 * j : 3 * j + 3]
      np.testing.assert_array_equal(part, images[2 * i + j])
  np.testing.assert_array_equal(dcgan.pack(images, 1), images)
  with pytest.raises(errors.UserError, match="multiple of 3 times"):
    dcgan.pack(images, 3)


def test_packs_have_one_logit():
  shape = (8, 8, 2)
  net, variables, _ = init("dcgan", "discriminator", shape, width=2, pack=4)
  images = np.random.RandomState(0).uniform(-1, 1, (8, *shape))
  images = images.astype(np.float32)
  apply = jax.jit(functools.partial(net.apply, train=False))
  judged = apply(variables, images)
  assert judged.logits.shape == (2,) and judged.features.shape == (2, 32)
  swapped = apply(variables, np.roll(images, 4, axis=0))
  for a, b in zip(swapped[:2], judged[:2], strict=True):
    np.testing.assert_allclose(a, b[::-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
@pytest.mark.parametrize("shape", SHAPES)
def test_encoders_make_as_many_numbers_as_asked_for(name, shape):
  y, params = abstract(name, "encoder", shape, outputs=7)
  assert y.shape == (2, 7) and y.dtype == jnp.float32
  assert params["output"]["kernel"].shape[1] == 7
  made = abstract(name, "decoder", shape)
  same = abstract(name, "generator", shape)
  assert made[0].shape == same[0].shape == (2, *shape)
