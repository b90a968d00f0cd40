"""Metrics of what a system makes of held-out images, and how they are fed."""

import json
from typing import Any

import numpy as np
import pytest

from ganjax import data, errors
from ganjax.data import digits
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics
from ganjax.runs import configs

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (6, 8, 8, 1)).astype(np.uint8)
EXAMPLES: dict[str, tuple[Any, Any]] = {
  "reconstruction": (IMAGES, IMAGES // 2),
  "classification_error": (np.arange(6) % 2, RNG.normal(size=(6, 2))),
  "roc_auc": (np.arange(6) > 1, RNG.normal(size=6)),
  "log_likelihood": (
    IMAGES,
    dict(elbo=RNG.normal(size=6), importance_bound=RNG.normal(size=6)),
  ),
}
NAMES = [name for name in metrics.names() if metrics.needs(name)]


@pytest.mark.parametrize("name", NAMES)
def test_their_records_are_plain(name):
  assert metrics.needs(name) in metrics.NEEDS
  record = metrics.get(name)(*EXAMPLES[name])
  assert {*metrics.values_of(name)} <= record.values.keys()
  assert np.isfinite(list(record.values.values())).all()
  json.dumps(record.to_dict(), allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_an_error_of_one_line(name, bad):
  wanted, found = EXAMPLES[name]
  if isinstance(found, dict):
    found = {**found, "elbo": np.where(np.arange(6) == 2, bad, 0.0)}
  else:
    found = np.array(found) / 1.0
    found[2] = bad
    wanted = wanted / 255 if name == "reconstruction" else wanted
  with pytest.raises(errors.UserError, match="1 of 6 .* not finite") as e:
    metrics.get(name)(wanted, found)
  assert "\n" not in str(e.value)


def test_test_error_by_hand():
  logits = np.array([[2.0, 1, 0], [0, 2, 1], [0, 1, 2], [9, 0, 0]])
  record = metrics.get("classification_error")([0, 1, 1, 0], logits)
  assert record.values["test_error"] == 25.0
  by_hand = 100 * np.sqrt(0.25 * 0.75 / 4)
  np.testing.assert_allclose(record.values["test_error_error"], by_hand)


@pytest.mark.parametrize(
  "scores, area",
  [
    ([3.0, 4, 1, 2], 1.0),  # Known images score higher, all of them.
    ([1.0, 2, 3, 4], 0.0),
    ([1.0, 4, 2, 3], 0.5),
    ([2.0, 3, 2, 1], 0.875),  # 2 > 1, 3 > 2, 3 > 1, and a tie: 3.5 of 4.
  ],
)
def test_roc_auc_by_hand(scores, area):
  known = np.array([True, True, False, False])
  record = metrics.get("roc_auc")(known, np.array(scores))
  assert record.values["roc_auc"] == area
  assert record.protocol == dict(num_known=2, num_left_out=2)


def test_mean_bounds_by_hand():
  record = metrics.get("log_likelihood", draws=3)(
    IMAGES[:2], dict(elbo=np.array([-90.0, -110.0]))
  )
  assert record.values == dict(elbo=-100.0, elbo_error=10 / np.sqrt(2))
  assert record.protocol == dict(num_held_out=2, draws=3)


@pytest.mark.parametrize(
  "name, wanted, found, text",
  [
    ("classification_error", None, np.ones((2, 3)), "needs a dataset with"),
    ("classification_error", [0], np.ones((2, 3)), r"\[N\] and \[N, K\]"),
    ("roc_auc", None, np.ones(2), "config.leave_out"),
    ("roc_auc", np.array([True, True]), np.ones(2), "config.leave_out"),
    ("roc_auc", np.array([True, False]), np.ones(3), r"must be \[N\]"),
  ],
)
def test_what_does_not_fit_is_named(name, wanted, found, text):
  with pytest.raises(errors.UserError, match=text):
    metrics.get(name)(wanted, found)


def test_a_bound_of_no_draws_is_refused():
  with pytest.raises(errors.UserError, match="draws=0"):
    metrics.get("log_likelihood", draws=0)


def without(*classes):
  train, test = digits.load("train"), digits.load("test")
  return evaluate.Evaluator("digits", data.without(train, classes), test)


def test_left_out_classes_are_seen_by_anomaly_scores_alone():
  evaluator, test = without(3, 7), digits.load("test")
  left_out = np.isin(test.labels, (3, 7))
  assert len(evaluator.test.images) == np.sum(~left_out)
  assert not np.isin(evaluator.test.labels, (3, 7)).any()
  asked = []

  def ability(images, labels, **how):
    asked.append((len(images), how))
    return np.where(np.isin(labels, (3, 7)), 0.0, 1.0)

  def classify(images, labels):
    return np.eye(10)[labels]

  def log_likelihood(images, labels, draws):
    return dict(elbo=ability(images, labels, draws=draws))

  found = evaluator.score(
    dict(
      roc_auc=dict(num_samples=0),
      classification_error=dict(num_samples=0),
      log_likelihood=dict(num_samples=9, draws=4),
    ),
    lambda n, seed: np.zeros(n),
    abilities=dict(
      score=ability, classify=classify, log_likelihood=log_likelihood
    ),
  )
  assert found["roc_auc"].values == dict(roc_auc=1.0)
  assert found["roc_auc"].protocol["num_left_out"] == left_out.sum()
  assert found["classification_error"].values["test_error"] == 0.0
  assert found["classification_error"].protocol["num_held_out"] == sum(
    ~left_out
  )
  assert asked == [(len(test.images), {}), (9, dict(draws=4))]


def test_the_left_out_images_count_for_the_digest():
  evaluator = without(3)
  test = digits.load("test")
  left_out = np.where(test.labels == 3)[0]
  test.images[left_out[0]] += 1
  other = evaluate.Evaluator("digits", evaluator.train, test)
  assert other.digests != evaluator.digests


def config_without(classes):
  config = configs.load("digits_mlp")
  config.leave_out = classes
  return configs.resolve(config)


def test_a_config_leaves_classes_out_of_training():
  config = config_without((0, 1))
  train, test = (configs.load_data(config, s) for s in ("train", "test"))
  assert {*train.labels} == {*range(2, 10)} and train.num_classes == 10
  assert {*test.labels} == {*range(10)}
  assert len(train.images) == len(train.labels)


@pytest.mark.parametrize(
  "classes, text",
  [((10,), "has classes from 0 to 9"), (tuple(range(10)), "leaves nothing")],
)
def test_classes_that_cannot_be_left_out_are_named(classes, text):
  with pytest.raises(errors.UserError, match=text):
    configs.load_data(config_without(classes), "train")


def test_points_without_labels_have_no_classes_to_leave_out():
  points = data.Arrays(np.zeros((3, 2), np.float32))
  assert data.without(points, ()) is points
  with pytest.raises(errors.UserError, match="has no labels"):
    data.without(points, (0,))
