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
