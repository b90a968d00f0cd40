"""BigGAN: published counts, z in every block, orthogonal kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets
from ganjax.nets import norms


def get(role, size=32, num_classes=10, **fields):
  return nets.get("biggan", role, (size, size, 3), num_classes, **fields)


def count(role, size, z_dim, num_classes, **fields):
  net = get(role, size, num_classes, **fields)
  shape = (2, z_dim) if role == "generator" else (2, size, size, 3)
  labels = jnp.zeros(2, jnp.int32)
  variables = jax.eval_shape(
    net.init, jax.random.key(0), jnp.zeros(shape), labels
  )
  return sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_published_parameter_counts():
  """google/compare_gan's for width 96; notes in the authors' code for 64."""
  counts = functools.partial(count, size=128, z_dim=120, num_classes=1000)
  assert counts("generator") == 70_433_988
  assert counts("discriminator") == 87_982_370
  assert counts("generator", width=64) == 31_850_628 + 128 * 1000
  assert counts("discriminator", width=64) == 39_448_258


def test_parameter_counts_at_32_pixels():
  """Layer by layer; with z of 80 a block is given 20 + 128 numbers."""
  c, d = 4 * 96, 2 * 96
  conv = lambda size, i, o: size**2 * i * o + o
  attention = lambda c: c * c // 8 * 2 + c * c // 2 * 2 + 1
  block = 4 * 148 * c + 2 * conv(3, c, c) + conv(1, c, c)
  expected = 20 * 16 * c + 16 * c + 3 * block + attention(c)
  expected += 2 * c + conv(3, c, 3) + 10 * 128
  assert count("generator", 32, 80, 10) == expected == 9_416_196
  first = conv(3, 3, d) + conv(3, d, d) + conv(1, 3, d)
  halving = 2 * conv(3, d, d) + conv(1, d, d)
  expected = first + attention(d) + halving + 2 * 2 * conv(3, d, d)
  expected += d + 1 + 10 * d
  assert count("discriminator", 32, 80, 10) == expected == 2_415_170


@functools.cache
def parameters(role):
  """Returns a tiny net's first parameters; nothing else is computed."""
  net, labels = get(role, width=2), jnp.array([3, 4])
  x = jnp.zeros((2, 8) if role == "generator" else (2, 32, 32, 3))
  init = jax.jit(lambda key: net.init(key, x, labels)["params"])
  return init(jax.random.key(0))


def test_each_chunk_of_z_acts_from_its_block_on():
  net, labels = get("generator", width=2), jnp.array([3, 4])
  z = jax.random.normal(jax.random.key(1), (2, 8))
  shapes = jax.eval_shape(net.init, jax.random.key(0), z, labels)
  stats = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), dict(shapes))
  variables = stats | {"params": parameters("generator")}
  apply = functools.partial(
    net.apply,
    capture_intermediates=lambda module, _: isinstance(
      module, norms.ConditionalBatchNorm
    ),
    mutable=["batch_stats", "spectral", "intermediates"],
  )

  @jax.jit
  def modulated(z, labels):
    """Returns the outputs of both batch norms of each of the three blocks."""
    seen = apply(variables, z, labels)[1]["intermediates"]
    names = [f"ConditionalBatchNorm_{i}" for i in range(6)]
    assert seen.keys() == set(names)
    return [seen[name]["__call__"][0] for name in names]

  before = jax.device_get(modulated(z, labels))

  def changed(z, labels):
    after = jax.device_get(modulated(z, labels))
    return [bool((a != b).any()) for a, b in zip(after, before, strict=True)]

  for chunk, unchanged in enumerate((0, 0, 2, 4)):
    other = z.at[:, 2 * chunk : 2 * chunk + 2].add(1.0)
    assert changed(other, labels) == [i >= unchanged for i in range(6)]
  # All blocks have the class from one table, whose other rows stay idle.
  assert all(changed(z, labels.at[0].set(5)))
  tables = [
    x
    for path, x in jax.tree_util.tree_leaves_with_path(parameters("generator"))
    if path[-1].key == "embedding"
  ]
  assert [x.shape for x in tables] == [(10, 128)]


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_kernels_are_orthogonal_at_the_start(role):
  for path, x in jax.tree_util.tree_leaves_with_path(parameters(role)):
    if path[-1].key in ("kernel", "embedding"):
      matrix = np.asarray(x).reshape(-1, x.shape[-1])
      if len(matrix) < matrix.shape[1]:
        matrix = matrix.T
      gram = matrix.T @ matrix
      np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize(
  ("size", "z_dim", "good"),
  [(128, 128, 126), (64, 128, 130), (32, 83, 84), (32, 1, 4)],
)
def test_a_z_that_does_not_divide_is_named(size, z_dim, good):
  net = get("generator", size, 0, width=2)
  with pytest.raises(errors.UserError, match=f"z_dim={good}, the nearest"):
    net.init(jax.random.key(0), jnp.zeros((2, z_dim)))
