"""Memory of a step: lives by hand, compilers' numbers, who is warned."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ganjax import cli, data
from ganjax.runs import configs
from ganjax.training import memory, train

SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 8 * 8 * 4  # Its bytes.
MASK = 8 * 8

# Megabytes of temporaries that XLA's compiler of GPUs asks for (jax 0.10.2,
# `ganjax bench --target h100`), by experiment and batch size.
COMPILED = {
  ("mnist_mlp", 100): 25.7,
  ("cifar_dcgan", 1024): 1698.2,
  ("cifar_r3gan", 64): 17_964.3,
}


def gpu(limit=None, index=0):
  """A device that tells its memory, and does nothing else."""
  return types.SimpleNamespace(
    platform="gpu",
    device_kind="fake",
    id=index,
    process_index=0,
    memory_stats=lambda: {"bytes_limit": limit} if limit else None,
  )


def parts_of(name, batch_size=0, devices=(), **changes):
  """The parts of an experiment, without its data."""
  config = configs.load(name)
  config.update(changes)
  if batch_size:
    config.batch_size = batch_size
  shape = {"cifar": (32, 32, 3), "mnist": (28, 28, 1), "digit": (16, 16, 1)}
  images = np.zeros((20, *shape[name[:5]]), np.uint8)
  arrays = data.Arrays(images, np.zeros(20, np.int32), 10)
  return train.build_parts(configs.resolve(config), arrays, devices or [gpu()])


def temporaries(function, *args):
  return memory.temporaries(lambda _, *xs: function(*xs), {}, *args)


def test_an_array_lives_until_it_is_last_read():
  chain = lambda x: x @ x @ x @ x
  assert temporaries(chain, SQUARE) == 3 * ONE  # x, what is read and made.

  def squared_again(x):
    for _ in range(4):
      x = x @ x
    return x

  assert temporaries(squared_again, SQUARE) == 2 * ONE

  def with_a_late_branch(x):
    first = x @ x
    second = first @ first
    third = second @ second
    return third @ first

  assert temporaries(with_a_late_branch, SQUARE) == 3 * ONE


def test_what_is_elementwise_is_written_where_it_pays():
  assert temporaries(lambda x: jnp.tanh(jnp.sin(x)).sum(), SQUARE) == ONE
  # A product reads it from memory.
  product = lambda x: jnp.sum(jnp.sin(x) @ x)
  assert temporaries(product, SQUARE) == 3 * ONE

  def masked(x):
    first = x @ x
    positive = first > 0
    second = first @ first
    third = second @ second
    return jnp.where(positive, third, 0.0).sum()

  # The mask is kept, not what it was made of.
  assert temporaries(masked, SQUARE) == 2 * ONE + MASK


def test_a_donated_state_takes_no_more_for_its_successor():
  def step(state, x):
    return state + 0.1 * (x @ x)

  assert memory.temporaries(step, SQUARE, SQUARE) == 2 * ONE
  assert temporaries(step, SQUARE, SQUARE) == 3 * ONE
  parts = parts_of("mnist_mlp")
  state = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(parts.like))
  found = memory.predict(parts)
  assert found.state == state
  assert found.dataset == 20 * (28 * 28 + 4)
  assert found.total == state + found.dataset + found.temporary
  many = memory.predict(parts, members=3)
  assert many.state == 3 * state and many.dataset == found.dataset


def test_what_calls_a_function_needs_what_that_needs():
  cube = lambda x: x @ x @ x
  alone = temporaries(lambda x: cube(x).sum(), SQUARE)
  custom = jax.custom_jvp(cube)
  custom.defjvp(lambda x, tangent: (custom(*x), tangent[0]))
  for called in jax.jit(cube), jax.checkpoint(cube), custom:
    assert temporaries(lambda x, f=called: f(x).sum(), SQUARE) == alone
  # The loop holds x, and its body a product and what it returns.
  loop = lambda x: lax.fori_loop(0, 3, lambda _, y: cube(y), x).sum()
  assert temporaries(loop, SQUARE) == (2 + 2) * ONE

  def either(x):
    return lax.cond(x.sum() > 0, cube, lambda x: x @ x, x).sum()

  which = 4  # An int32: the branch that is taken.
  assert temporaries(either, SQUARE) == (2 + 2) * ONE + which
  nothing = lambda x: (x @ x @ x, x + 1)
  assert temporaries(lambda x: jax.jit(nothing)(x)[1].sum(), SQUARE) == ONE


def test_a_larger_share_of_the_batch_takes_more():
  parts = parts_of("cifar_dcgan")
  found = [memory.predict(parts, size).temporary for size in (32, 64, 128)]
  assert found[0] < found[1] < found[2]
  # Devices share a batch, and hold a state each.
  two = parts_of("cifar_dcgan", devices=[gpu(), gpu(index=1)])
  assert memory.predict(two, 128).temporary == pytest.approx(found[1], rel=0.01)
  assert memory.predict(two, 128).state == memory.predict(parts, 64).state


@pytest.mark.parametrize("name, batch_size", COMPILED)
def test_a_prediction_is_near_what_a_compiler_says(name, batch_size):
  parts = parts_of(name, batch_size)
  predicted = memory.predict(parts).temporary / 1e6
  assert 1 / 1.5 < predicted / COMPILED[name, batch_size] < 1.5


def config():
  found = configs.load("digits_mlp:smoke")
  found.evals = {}
  found.checkpoint.best = ""
  found.update(batch_size=512, stream=dict(mode="never"))
  return configs.resolve(found)


def set_up(folder, device):
  return train.set_up({folder: config()}, folder, [device])


def test_a_step_that_does_not_fit_is_a_warning(tmp_path):
  parts = set_up(tmp_path, gpu())
  # What 128 images need fits.
  limit = memory.predict(parts, 128).total
  with pytest.warns(UserWarning, match="this step needs about") as caught:
    set_up(tmp_path, gpu(limit))
  (warning,) = caught
  text = str(warning.message)
  assert f"the device has {limit / 1e9:.3g} GB" in text
  size = int(text.split("up to about ")[1].split(")")[0])
  assert 96 <= size <= 136
  assert memory.predict(parts, size).total <= 1.05 * limit
  with pytest.warns(UserWarning, match="no config.batch_size fits"):
    set_up(tmp_path, gpu(1000))
  with warnings.catch_warnings(action="error"):
    set_up(tmp_path, gpu(memory.predict(parts).total))


def test_on_a_cpu_nothing_is_traced(tmp_path, monkeypatch):
  monkeypatch.setattr(memory, "predict", None)
  with warnings.catch_warnings(action="error"):
    set_up(tmp_path, jax.devices()[0])


def test_too_little_memory_is_one_line(capsys):
  def command():
    raise jax.errors.JaxRuntimeError(
      "RESOURCE_EXHAUSTED: Out of memory\nallocating 81604378624 bytes."
    )

  assert cli.guard(command) == 1
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  assert lines[0].startswith("error: the memory of the device is not enough")
  assert "config.batch_size" in lines[0] and "81604378624" in lines[0]
  with pytest.raises(jax.errors.JaxRuntimeError):
    cli.guard(command, debug=True)

  def other():
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")

  with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
    cli.guard(other)
