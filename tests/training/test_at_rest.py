"""Where a training set lies, a step gathers its batch and touches no more.

A cast, a transposition or a cut of the whole set costs a TPU more than a small
step, and neither its numbers nor its time on a CPU would show it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, parallel
from ganjax.data import sources
from ganjax.runs import configs
from ganjax.tools.bench import estimate
from ganjax.training import feed, memory, program, train

# A prime: the size of an array is a multiple of it where there is a number for
# each image, and nowhere else.
NUM_IMAGES = 1_000_003
ONE = jax.devices()[:1]
# form -> how many steps it makes at once, and of how many members.
RESIDENT = {
  "a step": (1, 0),
  "several steps": (3, 0),
  "members": (1, 2),
  "several steps of members": (3, 2),
}


class Reader:
  """A system that looks at its batch and does nothing else.

  All that a system is given of the training set is its batch, so the real ones
  need not be traced for each form.
  """

  lazy = {}

  def updates(self):
    return ()

  def skip(self, step):
    del step
    return ()

  def train_step(self, state, batch, key, skip=()):
    del key, skip
    return state, {"mean": batch.images.mean()}


def is_whole(variable):
  size = variable.aval.size
  return size > 0 and size % NUM_IMAGES == 0


def of_whole(jaxpr, inside=()):
  """Yields the path to an operation, and it, if an operand is of all images."""
  for eqn in jaxpr.eqns:
    variables = [x for x in eqn.invars if hasattr(x, "aval")]
    if not any(map(is_whole, [*variables, *eqn.outvars])):
      continue
    path = (*inside, eqn.primitive.name)
    called = list(memory.functions(eqn.params))
    # What calls others hands the arrays on; what becomes of them is theirs.
    for one in called:
      yield from of_whole(one, path)
    if not called:
      yield path, eqn


def assert_gathered(function, arguments):
  """Asserts that images and labels are read by gathers; returns how many."""
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  assert any(map(is_whole, jaxpr.invars))
  count = 0
  for path, eqn in of_whole(jaxpr):
    whole = [i for i, x in enumerate(eqn.invars) if is_whole(x)]
    rows_alone = whole == [0] and not any(map(is_whole, eqn.outvars))
    assert path[-1] == "gather" and rows_alone, f"{' > '.join(path)}: {eqn}"
    count += 1
  return count


def parts_of(name, streams=False):
  """Returns the parts of an experiment's smoke form, and its shapes."""
  config = configs.resolve(configs.load(f"{name}:smoke"))
  arrays = estimate.abstract_arrays(config, num_images=NUM_IMAGES)
  few = sources.Rows(estimate._few(arrays)) if streams else None
  return train.build_parts(config, arrays, ONE, few), arrays


def make_step(parts, system, members=0):
  streams = parts.feed.streams
  return program.make_step(system, parts.prepare, ONE, streams, members > 0)


@pytest.mark.parametrize("name", configs.experiments())
def test_the_step_of_every_experiment_gathers(name, monkeypatch):
  parts, arrays = parts_of(name)
  num_leaves = len(jax.tree.leaves(arrays))
  for platform in ("cpu", "tpu"):
    monkeypatch.setattr(parallel, "platform", lambda p=platform: p)
    for num_steps, members in RESIDENT.values():
      step = make_step(parts, Reader(), members)
      function = step.several() if num_steps > 1 else step.single(())
      arguments = estimate._arguments(parts, arrays, num_steps, members)
      count = assert_gathered(function, arguments)
      # Of images and of labels, for each batch of the step.
      batches, _ = parts.feed.shape
      assert count == batches * num_leaves
  # Images are rows: of whatever has more axes a TPU makes another layout.
  assert arguments[1].images.ndim == 2

  parts, _ = parts_of(name, streams=True)
  function = make_step(parts, Reader()).single(())
  arguments = estimate._arguments(parts, arrays, 1, 0)
  assert arguments[1] is None
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  assert not any(map(is_whole, jaxpr.invars)) and not [*of_whole(jaxpr)]


# One of each system.
@pytest.mark.parametrize(
  "name",
  "digits_anogan digits_autoencoder digits_bigan digits_dcgan digits_f_anogan "
  "digits_infogan digits_inpainting digits_semi_supervised digits_vae "
  "digits_vaegan".split(),
)
def test_systems_gather_too(name):
  """The whole of a step, of one system of each kind."""
  parts, arrays = parts_of(name)
  function = make_step(parts, parts.system).single(())
  arguments = estimate._arguments(parts, arrays, 1, 0)
  assert assert_gathered(function, arguments) > 0


def test_what_is_compiled_for_is_what_a_run_has():
  """Shapes of a target are those of the arrays that a feed copies."""
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (6, 4, 4, 3), np.uint8)
  arrays = data.Arrays(images, np.arange(6, dtype=np.int32), 6)
  parts = feed.Feed(source=None, arrays=arrays, shape=(1, 2), devices=ONE)
  at_rest, _ = parts.resident(0)(0, 1)
  abstract = parts.at_rest(jax.eval_shape(lambda: arrays))
  for found, shape in zip(
    jax.tree.leaves(at_rest), jax.tree.leaves(abstract), strict=True
  ):
    assert (found.shape, found.dtype) == (shape.shape, shape.dtype)
  np.testing.assert_array_equal(at_rest.images, images.reshape(6, -1))


def test_rows_fill_whole_tiles_of_a_tpu():
  random = np.random.default_rng(0)
  images = random.integers(1, 256, (2, 3, 4, 4, 3), np.uint8)
  arrays = data.Arrays(images, np.zeros((2, 3), np.int32), 6)
  found = feed.rows(arrays, axes=2, multiple=128)
  abstract = feed.rows(jax.eval_shape(lambda: arrays), axes=2, multiple=128)
  assert found.images.shape == abstract.images.shape == (2, 3, 128)
  assert found.images.dtype == abstract.images.dtype == np.uint8
  np.testing.assert_array_equal(
    found.images[..., :48], images.reshape(2, 3, 48)
  )
  assert not found.images[..., 48:].any()
  # A row that is full stays as it is.
  assert feed.rows(arrays, axes=2, multiple=48).images.shape == (2, 3, 48)


def take(images, places):
  return jnp.take(images, places, axis=0, mode="clip")


@pytest.mark.parametrize(
  "choose",
  [
    lambda images, places: take(images.astype(jnp.float32), places),
    lambda images, places: take(images / 127.5 - 1.0, places),
    lambda images, places: take(images.transpose(0, 2, 3, 1), places),
    lambda images, places: take(images.reshape(NUM_IMAGES, -1), places),
    lambda images, places: take(images, places) + images.sum(),
    lambda images, places: jax.jit(lambda x: take(x[:, ::-1], places))(images),
    # Where the set is cut in front of a loop.
    lambda images, places: jax.lax.scan(
      lambda x, i: (x, take(x, i[None])), images[..., :2], places
    )[1],
  ],
)
def test_what_is_not_a_gather_is_seen(choose):
  shape = jax.ShapeDtypeStruct((NUM_IMAGES, 2, 3, 3), np.uint8)
  arguments = shape, jax.ShapeDtypeStruct((4,), np.int32)
  assert assert_gathered(take, arguments) == 1
  with pytest.raises(AssertionError):
    assert_gathered(choose, arguments)
