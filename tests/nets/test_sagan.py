"""Self-attention by hand; what SAGAN and BigGAN have in common."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import attention

NAMES = ("sagan", "biggan")
ROLES = ("generator", "discriminator")
# Their discriminators are the same function.
TRAINED = [
  ("sagan", "generator"),
  ("biggan", "generator"),
  ("sagan", "discriminator"),
]
NUM_CLASSES, Z_DIM = 3, 60  # 60 is divided by 4, 5 and 6.


def get(name, role, size=32, num_classes=NUM_CLASSES, **fields):
  fields.setdefault("width", 2)
  return nets.get(name, role, (size, size, 3), num_classes, **fields)


def inputs(role, size=32, n=4, z_dim=Z_DIM):
  shape = (n, z_dim) if role == "generator" else (n, size, size, 3)
  return jax.random.normal(jax.random.key(1), shape)


def shapes_of(net, x, labels=None):
  """Returns the shapes of the net's variables, and of its output."""
  init = net.init_with_output
  y, variables = jax.eval_shape(init, jax.random.key(0), x, labels)
  return dict(variables), y


def draw(shapes):
  """Returns variables of these shapes; to initialise takes longer."""
  rng = np.random.RandomState(0)

  def leaf(path, x):
    if path[-1].key in ("mean", "bias"):
      return jnp.zeros(x.shape)
    if path[-1].key in ("var", "scale"):
      return jnp.ones(x.shape)
    if not x.ndim:
      return jnp.float32(0.5)  # Of attention.
    std = np.prod(x.shape[:-1]) ** -0.5
    return jnp.asarray(rng.normal(0, std, x.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(leaf, shapes)


@functools.cache
def compiled(name, role):
  """Returns a tiny net's variables, with attention on, inputs, and a step.

  The step is `(variables, x, labels) -> (output, new stats, gradients)`.
  """
  net, x = get(name, role), inputs(role)
  labels = jnp.array([0, 1, 2, 1])
  variables = draw(shapes_of(net, x, labels)[0])

  @jax.jit
  def step(variables, x, labels):
    stats = {k: v for k, v in variables.items() if k != "params"}

    def loss_fn(params):
      y, new = net.apply(
        {"params": params, **stats}, x, labels, mutable=list(stats)
      )
      y = y if role == "generator" else y.logits
      weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
      return (weights * y).sum(), (y, new)

    grads, (y, new) = jax.grad(loss_fn, has_aux=True)(variables["params"])
    return y, new, grads

  for _ in range(20):  # The norms are found.
    new = step(variables, x, labels)[1]
    variables = {**variables, "spectral": new["spectral"]}
  return variables, x, labels, step


def leaves(tree, *names):
  """Returns the leaves of `tree` that stand at, or below, one of `names`."""
  paths = jax.tree_util.tree_leaves_with_path(tree)
  return [x for path, x in paths if {p.key for p in path} & set(names)]


def count(name, role, size, **fields):
  net, x = get(name, role, size, **fields), inputs(role, size, 2, 120)
  variables, y = shapes_of(net, x, jnp.zeros(2, jnp.int32))
  y = y if role == "generator" else y.logits
  assert y.shape == ((2, size, size, 3) if role == "generator" else (2,))
  assert y.dtype == jnp.float32
  return sum(x.size for x in jax.tree.leaves(variables["params"]))


@functools.cache
def self_attention():
  """Returns the variables of attention on `[2, 4, 4, 8]`, and its step."""
  layer = attention.SelfAttention()
  init = jax.jit(layer.init)
  variables = init(jax.random.key(0), jnp.zeros((2, 4, 4, 8)))
  # Kernels of rank one: a single iteration finds their norm.
  return variables, jax.jit(
    functools.partial(layer.apply, mutable=["spectral"])
  )


def attend(x, gamma, **kernels):
  """Returns what attention makes of `x`, with kernels `[in, out]`."""
  variables, step = self_attention()
  params = {**variables["params"], "gamma": jnp.float32(gamma)}
  for name, kernel in kernels.items():
    kernel = jnp.asarray(kernel, jnp.float32)[None, None]
    assert kernel.shape == params[name]["kernel"].shape
    params[name] = {"kernel": kernel}
  return np.asarray(step({**variables, "params": params}, x)[0])


def wire(size_in, size_out, start, end=0, strength=1.0):
  """Returns a kernel `[in, out]`: channel `start` goes to channel `end`."""
  kernel = np.zeros((size_in, size_out))
  kernel[start, end] = strength
  return kernel


def test_attention_starts_as_the_identity():
  variables, step = self_attention()
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
  np.testing.assert_array_equal(step(variables, x)[0], x)
  kernels = {k: v for k, v in variables["params"].items() if k != "gamma"}
  assert {k: v["kernel"].shape[2:] for k, v in kernels.items()} == dict(
    query=(8, 1), key=(8, 1), value=(8, 4), output=(4, 8)
  )


def test_without_scores_attention_is_the_mean():
  """All scores are 0: everyone gets the mean of the pooled values."""
  x = np.random.RandomState(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
  none = wire(8, 1, 0, strength=0.0)
  output = wire(4, 8, 1, 5, 0.6) + wire(4, 8, 1, 6, 0.8)
  y = attend(
    x, 0.5, query=none, key=wire(8, 1, 0), value=wire(8, 4, 7, 1), output=output
  )
  mean = x[..., 7].reshape(2, 2, 2, 2, 2).max((2, 4)).mean((1, 2))
  expected = 0.5 * np.outer(mean, [0, 0, 0, 0, 0, 0.6, 0.8, 0])
  expected = np.broadcast_to(expected[:, None, None], x.shape)
  np.testing.assert_allclose(y - x, expected, rtol=1e-4, atol=1e-6)


def test_attention_by_hand():
  """Weights .1 .2 .3 .4 for one pixel, equal ones for the others."""
  x = np.zeros((2, 4, 4, 8), np.float32)
  x[1, 0, 1, 0] = 1.0  # The only pixel that asks.
  # Of each 2x2 pixels the largest counts, and it stands in another corner.
  x[1, :, :, 1] = -1.0
  for i, (row, column) in enumerate([(0, 0), (1, 2), (2, 1), (3, 3)]):
    x[1, row, column, 1] = np.log(i + 1)
    x[1, row, column, 2] = 10 * (i + 1)
  y = attend(
    x,
    2.0,
    query=wire(8, 1, 0, strength=3.0),  # Norms do not count.
    key=wire(8, 1, 1),
    value=wire(8, 4, 2, 0),
    output=wire(4, 8, 0, 3),
  )
  expected = np.zeros((2, 4, 4))
  expected[1] = 2 * (10 + 20 + 30 + 40) / 4
  expected[1, 0, 1] = 2 * (0.1 * 10 + 0.2 * 20 + 0.3 * 30 + 0.4 * 40)
  np.testing.assert_allclose(y[..., 3], expected, rtol=1e-5)
  np.testing.assert_array_equal(np.delete(y, 3, -1), np.delete(x, 3, -1))


def test_parameter_counts():
  """BigGAN's code notes SAGAN with attention at 64x64; here it is at 32x32.

  Attention of C channels has 5/4 C^2 + 1 parameters.
  """
  paper = dict(width=64, num_classes=1000)
  z = 8 * 16 * 1024  # The notes are for z of 128, `count` for 120.
  g_more = 5 * (256**2 - 128**2) // 4
  assert count("sagan", "generator", 128, **paper) + z == 42_017_412 + g_more
  d_more = 5 * (128**2 - 64**2) // 4
  assert count("sagan", "discriminator", 128, **paper) == 39_448_258 + d_more


@pytest.mark.parametrize("role", ROLES)
def test_at_64_pixels(role):
  """SAGAN has fewer channels there than BigGAN in G, and the same in D."""
  biggan, sagan = count("biggan", role, 64), count("sagan", role, 64)
  assert sagan < biggan if role == "generator" else sagan == biggan


@pytest.mark.parametrize(("name", "role"), TRAINED)
def test_training(name, role):
  """Every kernel has a gradient and a norm, every batch norm its means."""
  variables, x, labels, step = compiled(name, role)
  _, new, grads = step(variables, x, labels)
  for grad in leaves(grads, "kernel", "gamma", "embedding"):
    assert np.isfinite(grad).all() and np.abs(grad).max() > 0
  for kind in ("mean", "var") * (role == "generator"):
    before, after = leaves(variables, kind), leaves(new, kind)
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
  kernels = [k.reshape(-1, k.shape[-1]) for k in leaves(variables, "kernel")]
  norms = [np.linalg.norm(kernel, 2) for kernel in kernels]
  sigmas = [float(sigma) for sigma in leaves(new, "sigma")]
  np.testing.assert_allclose(sorted(sigmas), sorted(norms), rtol=0.1)


@pytest.mark.parametrize(("name", "role"), TRAINED)
def test_the_norm_of_no_kernel_counts(name, role):
  variables, x, labels, step = compiled(name, role)
  larger = jax.tree_util.tree_map_with_path(
    lambda path, x: x * (3 if path[-1].key == "kernel" else 1),
    variables["params"],
  )
  y, *_ = step(variables, x, labels)
  again, *_ = step({**variables, "params": larger}, x, labels)
  np.testing.assert_allclose(again, y, rtol=1e-3, atol=1e-5)
  assert np.std(y) > 1e-3


def test_labels_are_projected():
  """A class embedded as the head's kernel counts the features twice."""
  variables, x, labels, step = compiled("sagan", "discriminator")
  params = variables["params"]
  head = params["Dense_0"]["kernel"][:, 0]
  embed = jnp.zeros((NUM_CLASSES, head.size)).at[1].set(head)
  params = {**params, "embed": {"kernel": embed}}
  variables = {**variables, "params": params}
  zeros = jnp.zeros_like(labels)
  _, new, _ = step(variables, x, zeros)  # Of rank one: their norms are found.
  plain, *_ = step({**variables, **new}, x, zeros)
  some, *_ = step({**variables, **new}, x, labels)
  twice = jnp.where(labels == 1, 2.0, 1.0)
  np.testing.assert_allclose(some, twice * plain, rtol=1e-4)


def test_labels_scale_and_shift_what_sagan_generates():
  variables, z, labels, step = compiled("sagan", "generator")

  def difference(keep):
    """Of four images if the first's label changes, with these tables."""
    params = jax.tree_util.tree_map_with_path(
      lambda path, x: (
        0 * x if path[-1].key == "embedding" and path[-2].key != keep else x
      ),
      variables["params"],
    )
    net = {**variables, "params": params}
    one, other = (step(net, z, x)[0] for x in (labels, labels.at[0].set(2)))
    return np.abs(one - other).max((1, 2, 3))

  assert not difference(keep="").any()
  for name in "gamma", "beta":
    assert difference(name).argmax() == 0 and difference(name)[0] > 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ROLES)
def test_conditional_is_a_field(name, role):
  x = inputs(role, n=2)
  plain = get(name, role, num_classes=0)
  ignoring = get(name, role, conditional=False)
  labels = jnp.zeros(2, jnp.int32)
  assert shapes_of(plain, x) == shapes_of(ignoring, x, labels)
  with pytest.raises(errors.UserError, match=f"{role}.conditional=False"):
    shapes_of(get(name, role), x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(48, 48, 3), (32, 64, 3), (2,)])
def test_shapes_that_do_not_fit_are_named(name, shape):
  for role in ROLES:
    net = nets.get(name, role, shape)
    with pytest.raises(errors.UserError, match="32, 64 or 128 pixels"):
      net.init(jax.random.key(0), jnp.zeros((2, *shape)))
