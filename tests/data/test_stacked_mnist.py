import functools

import jax
import numpy as np
import pytest
from scipy import special

from ganjax import data, errors
from ganjax.data import cache, digits, stacked_mnist, tfds
from ganjax.evaluation import extractors, metrics
from ganjax.evaluation.extractors import classifier, stacked

load = functools.partial(
  stacked_mnist.load, source="digits", num_examples=600, num_test=500
)
# What must never change: a score on these triples depends on them.
FROZEN_TRAIN, FROZEN_TEST = "671e06bccde53b1d", "b3c5ab378533bb7d"


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
  folder = tmp_path_factory.mktemp("classifiers")
  return stacked.fit(load("train"), load("test"), folder, "stacked_mnist")


def one_hot(counts):
  labels = np.repeat(np.arange(len(counts)), counts)
  return 5.0 * np.eye(len(counts))[labels]


def covered(real, fake, **hyper):
  return metrics.get("classes", **hyper)(one_hot(real), one_hot(fake))


# The data.


def test_channels_are_digits_and_the_label_names_them():
  for split, num in (("train", 600), ("test", 500)):
    arrays, singles = load(split), digits.load(split, size=8)
    assert arrays.images.shape == (num, 8, 8, 3)
    assert arrays.images.dtype == np.uint8 and arrays.labels.dtype == np.int32
    assert arrays.num_classes == 1000
    known = {
      image.tobytes(): label
      for image, label in zip(singles.images, singles.labels, strict=True)
    }
    for image, label in zip(
      arrays.images[:50], arrays.labels[:50], strict=True
    ):
      a, b, c = (known[image[..., i].tobytes()] for i in range(3))
      assert label == 100 * a + 10 * b + c


def test_triples_are_drawn_evenly_and_independently():
  arrays = load(num_examples=20_000)
  counts = np.bincount(arrays.labels, minlength=1000).reshape(10, 10, 10)
  assert counts.min() > 0 and counts.shape == (10, 10, 10)
  share = np.bincount(digits.load().labels) / 1437
  expected = np.einsum("i,j,k->ijk", share, share, share)
  # 20 a class: chi squared with 999 degrees, deviation 45.
  chi2 = np.sum((counts - 20_000 * expected) ** 2 / (20_000 * expected))
  assert 800 < chi2 < 1200


def test_triples_repeat_and_are_frozen_and_cached():
  train, test = load("train"), load("test")
  assert isinstance(train.images, np.memmap)
  assert cache.digest(train) == FROZEN_TRAIN
  assert cache.digest(test) == FROZEN_TEST


def test_a_longer_set_crosses_blocks(monkeypatch):
  whole = load(num_examples=40)
  monkeypatch.setattr(stacked_mnist, "_BLOCK", 7)
  monkeypatch.setattr(cache, "cached", lambda key, make: make(np.empty))
  again = load(num_examples=40)
  np.testing.assert_array_equal(again.images, whole.images)


def test_digits_may_be_enlarged_and_padded():
  small, large = load(num_examples=5), load(num_examples=5, size=16, pad=3)
  assert large.images.shape == (5, 22, 22, 3)
  np.testing.assert_array_equal(large.labels, small.labels)
  inner = large.images[:, 3:-3, 3:-3].astype(int)
  assert large.images.sum() == inner.sum()
  halved = inner.reshape(5, 8, 2, 8, 2, 3).mean((2, 4))
  assert np.abs(halved - small.images).mean() < 12


def test_mnist_is_asked_of_tfds(monkeypatch):
  asked = []

  def fake(split, **options):
    asked.append((split, options))
    images = np.arange(6 * 28 * 28).reshape(6, 28, 28, 1).astype(np.uint8)
    return data.Arrays(images, np.arange(6, dtype=np.int32), 10)

  monkeypatch.setattr(tfds, "load", fake)
  arrays = stacked_mnist.load("test", num_test=9, pad=2, data_dir="there")
  assert arrays.images.shape == (9, 32, 32, 3)
  assert asked == [("test", dict(builder="mnist", size=0, data_dir="there"))]


@pytest.mark.parametrize(
  ("wrong", "text"),
  [
    (dict(split="tset"), "unknown split 'tset'.*known: test, train"),
    (dict(source="mnits"), "unknown source 'mnits'.*'mnist'"),
    (dict(num_examples=0), "num_examples is 0, it must be at least 1"),
    (dict(num_test=0), "num_test is 0"),
    (dict(size=-1), "size is -1, it must be at least 0"),
    (dict(pad=-1), "pad is -1"),
  ],
)
def test_mistakes_are_one_line(wrong, text):
  with pytest.raises(errors.UserError, match=text) as e:
    load(**wrong)
  assert "\n" not in str(e.value)


def test_tfds_validates_on_what_is_set_aside(monkeypatch):
  monkeypatch.setattr(cache, "cached", lambda key, make: key["split"])
  load = functools.partial(
    tfds.load,
    builder="mnist",
    train_split="train[:5]",
    validation_split="train[5:]",
  )
  for split, stands_for in (
    ("train", "train[:5]"),
    ("validation", "train[5:]"),
    ("test", "test"),
    ("train[7:]", "train[7:]"),
  ):
    assert load(split) == stands_for
  with pytest.raises(errors.UserError, match="set validation_split"):
    tfds.load("validation", builder="mnist")


# The extractor.


def test_it_reads_three_digits(extractor):
  test = load("test")
  features, logits = extractor(test.images)
  assert features.shape == (500, 192) and logits.shape == (500, 1000)
  assert features.dtype == logits.dtype == np.float32
  accuracy = np.mean(logits.argmax(axis=1) == test.labels)
  assert accuracy == extractor.accuracy >= 0.85
  assert extractor.name == "stacked:stacked_mnist"
  single = extractor.protocol["digit_accuracy"]
  assert accuracy <= single <= 1 and abs(accuracy - single**3) < 0.05


def test_its_logits_are_log_probabilities_of_triples(extractor):
  images = load("test").images[:20]
  features, logits = extractor(images)
  np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
  parts = [extractor._single(images[..., i : i + 1]) for i in range(3)]
  np.testing.assert_array_equal(features[:, 64:128], parts[1].features)
  logs = [special.log_softmax(part.logits, axis=1) for part in parts]
  expected = logs[0][:, 4] + logs[1][:, 0] + logs[2][:, 7]
  np.testing.assert_allclose(logits[:, 407], expected, rtol=1e-5)


def test_real_triples_cover_their_classes_and_a_collapse_covers_one(extractor):
  train, test = load("train"), load("test")
  real, held_out = (extractor(s.images).logits for s in (train, test))
  metric = metrics.get("classes", share=0.0)
  values = metric(real, held_out).values
  expected = len(np.unique(test.labels))
  assert values["classes"] == 1000
  assert abs(values["classes_covered"] - expected) < 0.05 * expected
  collapsed = extractor(np.repeat(test.images[:1], 40, axis=0)).logits
  assert metric(held_out, collapsed).values["classes_covered"] == 1


def test_it_learns_single_digits_once(extractor, monkeypatch, tmp_path):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path))
  train, trained = load(num_examples=3), []

  def untrained(split, name):
    trained.append(name)
    assert split.images.shape == (9, 8, 8, 1) and split.num_classes == 10
    channels = np.concatenate(np.split(split.images, 3), axis=-1)
    np.testing.assert_array_equal(channels, train.images)
    triples = np.stack(np.split(split.labels, 3), axis=1)
    np.testing.assert_array_equal(triples @ [100, 10, 1], train.labels)
    return jax.device_get(extractor._single.params)

  monkeypatch.setattr(classifier, "_train", untrained)
  make = extractors.find("stacked")
  first, second = (make("stacked_mnist", train, train) for _ in range(2))
  assert trained == ["stacked_mnist"]
  assert first.digest == second.digest == extractor.digest
  assert first.accuracy == second.accuracy


def test_it_refuses_what_is_not_stacked():
  split = digits.load("test")
  with pytest.raises(errors.UserError, match="1000 classes.* digits has") as e:
    extractors.find("stacked")("digits", split, split)
  assert "\n" not in str(e.value)


# Classes that count as covered.


def test_the_share_that_covers_is_exact():
  # Real shares .4 .4 .2 0; half of .2 is .1, of .4 is .2.
  fakes = [8, 1, 1, 0]
  assert covered([4, 4, 2, 0], fakes).values["classes_covered"] == 3
  for share, num in ((0.5, 2), (0.25, 3), (0.26, 2), (1, 1), (0, 3)):
    record = covered([4, 4, 2, 0], fakes, share=share)
    assert record.values["classes_covered"] == num, share
    assert record.protocol["share"] == share
  # A tenth of a half is 1 of 20, although .1 is a little more in binary.
  for share, num in ((0.1, 2), (np.nextafter(0.1, 1), 1)):
    values = covered([10, 10], [19, 1], share=share).values
    assert values["classes_covered"] == num


def test_one_fake_is_enough_with_a_share_of_0():
  fake = [9999, 1, 1, 0]
  assert covered([5, 5, 0, 5], fake, share=0.0).values["classes_covered"] == 3
  assert covered([5, 5, 0, 5], fake).values["classes_covered"] == 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_fraction(share):
  with pytest.raises(errors.UserError, match="share is .* at most 1"):
    metrics.get("classes", share=share)
