import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import data, errors
from ganjax.data import cache, digits, scaling, toy

# What must never change, on any machine: a resumed run depends on the order,
# and every figure on digits on their split.
FROZEN_ORDER = [3, 5, 4, 0, 2, 1, 0, 5, 1, 3, 2, 4]
FROZEN_TRAIN, FROZEN_TEST = "5ef3202a74bac662", "6485c445262cdc99"


@pytest.mark.parametrize("name", data.names())
def test_every_dataset_takes_a_split_and_plain_defaults(name):
  split, *others = inspect.signature(data.find(name)).parameters.values()
  assert (split.name, split.default) == ("split", "train")
  for other in others:
    assert other.annotation in (int, float, str, bool)
    assert type(other.default) is other.annotation


@pytest.mark.parametrize("name", ["digits", "toy", "folder"])
def test_an_unknown_split_names_those_that_exist(name):
  with pytest.raises(errors.UserError, match="'tset'.*'test'.*known: .*tr"):
    data.find(name)("tset")


# The order of examples.


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own():
  stream = data.batch_indices(3, 0, 3 * 10, 10).reshape(3, 10)
  for epoch in stream:
    assert sorted(epoch) == list(range(10))
  assert len({tuple(epoch) for epoch in stream}) == 3
  assert not np.array_equal(stream.ravel(), data.batch_indices(4, 0, 30, 10))
  assert stream.dtype == np.int32


def test_the_stream_goes_on_from_any_place_and_across_epochs():
  whole = data.batch_indices(0, 0, 50, 7)
  for start in range(30):
    part = data.batch_indices(0, start, 20, 7)
    np.testing.assert_array_equal(part, whole[start : start + 20])


def test_seeds_in_turn_make_each_order_once(monkeypatch):
  """As the members of a population do; an order takes longer than a step."""
  made, random_state = [], np.random.RandomState

  def count(seed):
    made.append(tuple(seed))
    return random_state(seed)

  monkeypatch.setattr(np.random, "RandomState", count)
  seeds = range(7000, 7008)
  for start in range(0, 40, 10):
    for seed in seeds:
      data.batch_indices(seed, start, 10, 20)
  assert sorted(made) == [(seed, epoch) for seed in seeds for epoch in (0, 1)]


def test_the_order_is_frozen():
  assert data.batch_indices(0, 0, 12, 6).tolist() == FROZEN_ORDER


# Digits.


def test_digits_split_is_disjoint_stratified_and_fixed():
  train, test = digits.load("train", size=8), digits.load("test", size=8)
  assert train.images.shape == (1437, 8, 8, 1)
  assert test.images.shape == (360, 8, 8, 1)
  both = np.concatenate([train.images, test.images]).reshape(1797, 64)
  assert len(np.unique(both, axis=0)) == 1797
  shares = np.bincount(test.labels) / np.bincount(train.labels)
  np.testing.assert_allclose(shares, 0.25, atol=0.01)
  assert cache.digest(train) == FROZEN_TRAIN
  assert cache.digest(test) == FROZEN_TEST


def test_digits_are_uint8_over_the_whole_range_and_enlarged():
  small, large = digits.load(size=8), digits.load()
  for arrays in (small, large):
    assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
    assert (arrays.images.min(), arrays.images.max()) == (0, 255)
    assert arrays.num_classes == 10
  assert large.images.shape == (1437, 16, 16, 1)
  halved = large.images.reshape(-1, 8, 2, 8, 2).mean((2, 4))
  for shift, least, most in ((0, 0, 12), (1, 40, 255)):
    shifted = np.roll(small.images[..., 0], shift, axis=2)
    assert least <= np.abs(halved - shifted).mean() <= most
  with pytest.raises(errors.UserError, match="size is 4, it must be at least"):
    digits.load(size=4)


# Toy sets.


@pytest.mark.parametrize(("kind", "num_modes"), [("ring", 8), ("grid", 25)])
def test_mixtures_have_their_modes_in_equal_parts_and_std(kind, num_modes):
  arrays = toy.load(kind=kind, num_examples=50_000, std=0.02)
  centres = toy.centres(kind)
  assert arrays.num_classes == len(centres) == num_modes
  residual = arrays.images - centres[arrays.labels]
  np.testing.assert_allclose(residual.mean(0), 0, atol=4e-4)
  np.testing.assert_allclose(residual.std(0), 0.02, rtol=0.02)
  assert abs(np.corrcoef(residual.T)[0, 1]) < 0.02
  counts = np.bincount(arrays.labels, minlength=num_modes) / 50_000
  np.testing.assert_allclose(counts, 1 / num_modes, rtol=0.12)
  gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)
  nearest = np.sort(gaps, axis=1)[:, 1]
  expected = 1.6 * np.sin(np.pi / 8) if kind == "ring" else 0.4
  np.testing.assert_allclose(nearest, expected)


def test_line_and_spiral_lie_where_they_should():
  line = toy.load(kind="line", std=0.0).images
  np.testing.assert_array_equal(line[:, 0], line[:, 1])
  np.testing.assert_allclose([line.min(), line.max()], [-0.8, 0.8], atol=0.01)
  spiral = toy.load(kind="spiral", std=0.0).images
  radius = np.linalg.norm(spiral, axis=1)
  angle = 4 * np.pi * (radius - 0.1) / 0.8
  direction = np.stack([np.cos(angle), np.sin(angle)], 1)
  np.testing.assert_allclose(spiral, radius[:, None] * direction, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(toy.KINDS))
def test_toy_draws_repeat_but_splits_and_seeds_differ(kind):
  def draw(split="train", **kwargs):
    return toy.load(split, kind=kind, num_examples=500, **kwargs)

  arrays = draw()
  assert arrays.images.shape == (500, 2) and arrays.images.dtype == np.float32
  assert np.abs(arrays.images).max() < 1
  assert (arrays.labels is None) == (arrays.num_classes == 0)
  assert cache.digest(arrays) == cache.digest(draw())
  for other in (draw("test"), draw(seed=1)):
    assert not np.isin(arrays.images[:, 0], other.images[:, 0]).any()


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    (dict(kind="rign"), "unknown toy kind 'rign'; did you mean 'ring'"),
    (dict(num_examples=0), "num_examples is 0, it must be at least 1"),
    (dict(std=-1.0), "std is -1.0, it must be at least 0"),
    (dict(std=float("nan")), "std is nan"),
    (dict(seed=-1), "seed is -1"),
  ],
)
def test_toy_mistakes(wrong, message):
  with pytest.raises(errors.UserError, match=message):
    toy.load(**wrong)
  with pytest.raises(errors.UserError, match="'line'.*known: grid, ring"):
    toy.centres("line")


# Scalings.


@pytest.mark.parametrize("name", sorted(scaling.SCALINGS))
def test_scalings_are_inverse_maps_of_any_batch(name):
  """Of images alone, in a batch, or in the batches of a step."""
  to_network, to_stored, dtype = scaling.SCALINGS[name]()
  rng = np.random.RandomState(0)
  stored = jnp.asarray(rng.randint(0, 256, (2, 3, 4, 5, 3)), dtype)
  seen = to_network(stored)
  assert seen.shape == stored.shape and seen.dtype == jnp.float32
  np.testing.assert_allclose(seen[1, 2], to_network(stored[1])[2], rtol=1e-6)
  back = to_stored(seen)
  assert back.dtype == dtype
  if name != "contrast":
    np.testing.assert_array_equal(back, stored)


def test_contrast_by_hand():
  """Pixels 1, 1, 1, 5 have the mean 2 and the norm sqrt(12)."""
  to_network, to_stored, _ = scaling.SCALINGS["contrast"]()
  images = np.zeros((3, 2, 1, 2), np.uint8)
  images[0].ravel()[:] = 1, 1, 1, 5
  images[1].ravel()[:] = 255, 0, 0, 255
  images[2] = 77
  seen = np.asarray(to_network(jnp.asarray(images))).reshape(3, 4)
  expected = [
    np.array([-1.0, -1.0, -1.0, 3.0]) * 55 / np.sqrt(12),
    np.array([1.0, -1.0, -1.0, 1.0]) * 55 / 2,
    np.zeros(4),
  ]
  np.testing.assert_allclose(seen, expected, rtol=1e-6)
  # A third of the way down from grey, and all the way up.
  shown = to_stored(jnp.asarray(seen).reshape(3, 2, 1, 2)).reshape(3, 4)
  assert shown.tolist() == [
    [85, 85, 85, 255],
    [255, 0, 0, 255],
    [128, 128, 128, 128],
  ]
