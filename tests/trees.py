"""Arithmetic on trees in NumPy; JAX would compile a program for each shape."""

import jax
import numpy as np


def _map(function, *trees):
  return jax.tree.map(function, *jax.device_get(trees))


def largest_difference(a, b, **default):
  """Returns the largest |x - y|; `default`, or an error, without a leaf."""
  differences = _map(lambda x, y: np.abs(x - y).max(), a, b)
  return max(jax.tree.leaves(differences), **default)


def difference(a, b):
  return _map(lambda x, y: x - y, a, b)


def scaled(factor, tree):
  return _map(lambda x: factor * x, tree)


def mix(weight, a, b):
  """Returns weight a + (1 - weight) b."""
  return _map(lambda x, y: weight * x + (1 - weight) * y, a, b)


def assert_same(a, b):
  """Both have the same structure and types, and the same bits."""
  first = jax.tree_util.tree_leaves_with_path(jax.device_get(a))
  second = jax.tree_util.tree_leaves_with_path(jax.device_get(b))
  for (path, x), (other, y) in zip(first, second, strict=True):
    assert path == other
    name = jax.tree_util.keystr(path)
    assert np.asarray(x).dtype == np.asarray(y).dtype, name
    np.testing.assert_array_equal(x, y, err_msg=name)


def assert_same_run(a, b):
  """Two runs are at the same step, in the same state."""
  assert a.step == b.step
  assert_same(a.state, b.state)
