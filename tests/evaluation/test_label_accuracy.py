import types

import numpy as np
import pytest

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import extractors, metrics

NAME = "label_accuracy"


def logits(seen, num_classes=3):
  """Returns logits `[N, K]`, largest at the classes that are seen."""
  return np.eye(num_classes)[np.asarray(seen)] - 5.0


REAL = np.array([0, 1, 2, 0, 1, 2])
GIVEN = {
  "labels": REAL,
  "fake_labels": [0, 0, 1, 1, 1, 2, 2, 2],
  "held_out": logits([0, 1, 2, 1]),
  "held_out_labels": [0, 1, 2, 2],
}


def score(fake, real=None, **given):
  real = logits(REAL) if real is None else real
  return metrics.get(NAME, **{**GIVEN, **given})(real, fake)


def test_by_hand():
  # Right are two of two, two of three and one of three.
  record = score(logits([0, 0, 1, 1, 0, 1, 1, 2]))
  assert record.values == {
    NAME: 5 / 8,
    f"{NAME}_worst": 1 / 3,
    f"{NAME}_real": 3 / 4,
  }
  assert record.protocol == {
    "num_real": 6,
    "num_fake": 8,
    "num_held_out": 4,
    "classes": 3,
  }
  assert record.flags == ()


def test_fakes_are_judged_by_their_own_labels():
  right = score(logits(GIVEN["fake_labels"]))
  assert right.values[NAME] == right.values[f"{NAME}_worst"] == 1
  # The same fakes, drawn for other classes.
  rolled = np.roll(GIVEN["fake_labels"], 3)
  wrong = score(logits(GIVEN["fake_labels"]), fake_labels=rolled)
  assert wrong.values[NAME] == np.mean(rolled == GIVEN["fake_labels"])
  assert wrong.values[f"{NAME}_real"] == right.values[f"{NAME}_real"]
  # A class that nobody asked for is not the worst one.
  some = score(logits([1, 1, 0]), fake_labels=[1, 1, 1])
  assert some.values[f"{NAME}_worst"] == some.values[NAME] == 2 / 3


def test_a_classifier_of_other_classes_is_flagged():
  """Its first classes may be anything: held-out images show it, too."""
  wide = {
    "real": logits(REAL, 1000),
    "held_out": logits([999, 7, 8, 2], 1000),
  }
  record = score(logits(GIVEN["fake_labels"], 1000), **wide)
  assert record.flags == ("other classes",)
  assert record.values[f"{NAME}_real"] == 1 / 4
  narrow = {"real": logits(REAL % 2, 2), "held_out": logits([0, 1, 0, 1], 2)}
  record = score(logits([0, 0, 1, 1, 1, 0, 0, 0], 2), **narrow)
  assert record.flags == ("other classes",)
  assert record.values[f"{NAME}_worst"] == 0


@pytest.mark.parametrize(
  "given, text",
  [
    (dict(labels=None), "dataset with labels"),
    (dict(held_out=None), "a test split"),
    (dict(held_out_labels=None), "a test split"),
    (dict(fake_labels=None), "samples have no labels"),
    (dict(labels=REAL[:5]), r"\(5,\) .* 6 real"),
    (dict(fake_labels=REAL[:5]), r"\(5,\) .* 8 fake"),
    (dict(held_out_labels=REAL[:3]), r"\(3,\) .* 4 held-out"),
    (dict(held_out=logits([0, 1, 2, 1], 4)), r"must be \[N, d\]"),
    (dict(held_out=np.zeros((0, 3)), held_out_labels=[]), "too few"),
  ],
)
def test_user_errors(given, text):
  with pytest.raises(errors.UserError, match=text) as e:
    score(logits(GIVEN["fake_labels"]), **given)
  assert "\n" not in str(e.value)


class Sees:
  """An extractor that takes the first pixel for the class."""

  name, digest, accuracy = "sees", "0", np.nan
  protocol = types.MappingProxyType({})

  def __call__(self, images):
    classes = images[:, 0, 0, 0]
    return extractors.Features(logits(classes), logits(classes))


@pytest.fixture
def evaluator(monkeypatch, tmp_path):
  monkeypatch.setattr(cache, "root", lambda: tmp_path)
  monkeypatch.setattr(evaluate.Evaluator, "extractor", Sees())
  labels = np.arange(12, dtype=np.int32) % 3
  images = np.broadcast_to(labels[:, None, None, None], (12, 4, 4, 1))
  split = data.Arrays(images.astype(np.uint8), labels, 3)
  return evaluate.Evaluator("any", split, split)


@pytest.mark.parametrize("name", ["intra_frechet", "classification_accuracy"])
def test_metrics_of_labels_are_prepared_before_there_are_fakes(evaluator, name):
  """As an evaluation is; a run without labels is refused when it is scored."""
  specs = {NAME: {}, name: {}}
  evaluator.prepare(specs)
  with pytest.raises(errors.UserError, match="needs those of a conditional"):
    evaluator.compare(specs, evaluator.test.images)
  with pytest.raises(errors.UserError, match=f"{name}: .* of a conditional"):
    evaluator.compare({name: {}}, evaluator.test.images)


def test_it_is_given_the_logits_of_held_out_images(evaluator):
  fake = evaluator.test.images[:4]
  labels = np.array([0, 1, 2, 1])
  record = evaluator.compare({NAME: {}}, fake, labels)[NAME]
  assert record.values == {
    NAME: 3 / 4,
    f"{NAME}_worst": 1 / 2,
    f"{NAME}_real": 1.0,
  }
