import numpy as np
import pytest

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.extractors import classifier

NAME = "classification_accuracy"


def images(labels, seed, size=8):
  """Returns noisy images that are bright above in class 1, below in 0."""
  rng = np.random.RandomState(seed)
  labels = np.asarray(labels)
  x = rng.randint(0, 120, (len(labels), size, size, 1))
  above = np.arange(size)[None, :, None, None] < size // 2
  x = x + 100 * (above == labels[:, None, None, None])
  return x.astype(np.uint8)


LABELS = np.arange(80) % 2
REAL, TEST = images(LABELS, 0), images(LABELS[:60], 1)
GIVEN = {
  "labels": LABELS,
  "fake_labels": LABELS,
  "held_out": TEST,
  "held_out_labels": LABELS[:60],
}


def score(fake, real=REAL, **given):
  return metrics.get(NAME, **{**GIVEN, **given})(real, fake)


@pytest.fixture
def learnt(monkeypatch):
  """A list of the splits that classifiers learn; none is trained."""
  splits = []

  def fit(train, test, cache_dir, name):
    splits.append((train, test))
    return Sure(train, 0.75)

  def trained(train, name):
    splits.append((train, None))
    return Sure(train)

  monkeypatch.setattr(classifier, "fit", fit)
  monkeypatch.setattr(classifier, "trained", trained)
  return splits


class Sure:
  """Says of every image that it is of the first class that it learnt."""

  def __init__(self, train, accuracy=np.nan):
    self.answer = np.eye(train.num_classes)[train.labels[0]]
    self.accuracy = accuracy

  def __call__(self, images):
    return classifier.Features(None, np.tile(self.answer, (len(images), 1)))


def test_right_labels_teach_and_wrong_ones_mislead():
  fake = images(LABELS, 2)
  right = score(fake)
  assert right.values[NAME] >= 0.95 and right.values[f"{NAME}_real"] >= 0.95
  assert right.flags == ()
  wrong = score(fake, fake_labels=1 - LABELS)
  assert wrong.values[NAME] <= 0.05
  assert wrong.values[f"{NAME}_real"] == right.values[f"{NAME}_real"]


def test_reals_for_fakes_score_as_reals():
  record = score(images(LABELS, 0))
  assert record.values[NAME] == record.values[f"{NAME}_real"]


def test_it_learns_fakes_and_as_many_reals(learnt):
  fake, fake_labels = images(LABELS[:30], 3), np.repeat([1, 0], [10, 20])
  record = score(fake, fake_labels=fake_labels)
  (reals, test), (fakes, none) = learnt
  assert none is None
  np.testing.assert_array_equal(fakes.images, fake)
  np.testing.assert_array_equal(fakes.labels, fake_labels)
  assert fakes.num_classes == reals.num_classes == 2
  np.testing.assert_array_equal(test.images, TEST)
  np.testing.assert_array_equal(test.labels, LABELS[:60])
  # Thirty different reals, each with its label.
  index = [
    int(np.flatnonzero((image == REAL).all(axis=(1, 2, 3)))[0])
    for image in reals.images
  ]
  assert len(set(index)) == 30
  np.testing.assert_array_equal(reals.labels, LABELS[index])
  assert set(index) != set(range(30))
  # The first fake is of class 1, as half of the held-out images are.
  assert record.values == {NAME: 0.5, f"{NAME}_real": 0.75}
  assert record.protocol == {
    "num_real": 80,
    "num_fake": 30,
    "num_real_learnt": 30,
    "num_held_out": 60,
    "classes": 2,
    "classifier": f"ganjax recipe {classifier.RECIPE}",
  }


def test_more_fakes_than_reals_are_all_learnt(learnt):
  labels = np.arange(100) % 2
  record = score(images(labels, 4), fake_labels=labels)
  (reals, _), (fakes, _) = learnt
  assert len(fakes.images) == 100
  np.testing.assert_array_equal(reals.images, REAL)
  assert record.protocol["num_real_learnt"] == 80


def test_accuracy_counts_the_held_out_labels(learnt):
  held_out_labels = np.repeat([0, 1], [45, 15])
  record = score(REAL, held_out_labels=held_out_labels)
  assert record.values[NAME] == 0.75  # Class 0 is learnt first.


def test_floats_are_stored_as_bytes(learnt):
  score(REAL / 255, real=REAL / 255, held_out=TEST / 255)
  (reals, test), (fakes, _) = learnt
  for split, expected in ((reals, REAL), (fakes, REAL), (test, TEST)):
    assert split.images.dtype == np.uint8
    np.testing.assert_array_equal(split.images, expected)


def test_a_class_without_fakes_is_flagged(learnt):
  record = score(REAL, fake_labels=np.zeros(80, int))
  assert record.flags == ("missing classes",)
  assert learnt[1][0].num_classes == 2


@pytest.mark.parametrize(
  "given, text",
  [
    (dict(labels=None), "dataset with labels"),
    (dict(held_out=None), "a test split"),
    (dict(held_out_labels=None), "a test split"),
    (dict(fake_labels=None), "samples have no labels"),
    (dict(labels=LABELS[:5]), r"\(5,\) .* 80 real"),
    (dict(fake_labels=LABELS[:5]), r"\(5,\) .* 80 fake"),
    (dict(held_out_labels=LABELS[:5]), r"\(5,\) .* 60 held-out"),
    (dict(fake_labels=LABELS + 1), "from 1 to 2, the dataset has 2 classes"),
    (dict(held_out=TEST[:, :4]), r"must be images"),
    (dict(held_out=TEST[:0], held_out_labels=LABELS[:0]), "too few"),
  ],
)
def test_user_errors(learnt, given, text):
  with pytest.raises(errors.UserError, match=text) as e:
    score(REAL, **given)
  assert "\n" not in str(e.value) and not learnt


def test_non_finite_images_are_named_first(learnt):
  real = np.zeros((5, 8, 8, 1))
  fake = real.copy()
  fake[3, 1, 1] = np.nan
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite"):
    score(fake, real=real)
