import jax
import pytest

from ganjax import errors, evaluate, metrics, report
from ganjax.data import digits, toy
from ganjax.extractors import classifier


@pytest.fixture
def fits(monkeypatch):
  """A list of the classifiers that an evaluator trains; they are not fitted."""
  calls = []

  def fit(train, test, folder, name):
    del test, folder
    calls.append(name)
    net = classifier.Classifier(train.num_classes)
    params = net.init(jax.random.key(0), train.images[:1])["params"]
    return classifier.Extractor(name, train.num_classes, params, 0.5)

  monkeypatch.setattr(classifier, "fit", fit)
  return calls


SPEC = dict(every=5, num_samples=0)


def test_a_metric_on_samples_needs_no_classifier(fits):
  train, test = toy.load("train"), toy.load("test", num_examples=500)
  evaluator = evaluate.Evaluator("toy", train, test)
  evaluator.prepare({"modes": SPEC})
  (record,) = evaluator.compare({"modes": SPEC}, test.images).values()
  assert not fits
  assert record.values["modes_covered"] == record.values["modes"] == 8
  assert record.protocol == {
    "num_real": 10_000,
    "num_fake": 500,
    "sigmas": 3.0,
    "extractor": "none",
    "against": "train",
  }
  wide = evaluator.compare({"modes": SPEC | {"sigmas": 6.0}}, test.images)
  assert wide["modes"].values["high_quality"] == 1


def test_the_classifier_is_trained_once_and_when_it_is_needed(fits):
  train, test = toy.load("train"), toy.load("test", num_examples=500)
  evaluator = evaluate.Evaluator("toy", train, test)
  assert not fits
  specs = {"frechet": SPEC, "modes": SPEC, "classes": SPEC}
  records = evaluator.compare(specs, test.images)
  evaluator.compare(specs, test.images)
  evaluator.prepare(specs)
  assert fits == ["toy"] and list(records) == list(specs)
  assert records["modes"].protocol["extractor"] == "none"
  assert records["frechet"].protocol["extractor"] == "classifier:toy"
  assert records["frechet"].protocol["extractor_accuracy"] == 0.5
  before = evaluate.Evaluator("toy", train, test)
  before.prepare({"classes": SPEC})
  assert fits == ["toy", "toy"]


def test_images_are_samples_when_flattened(fits):
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test)
  (record,) = evaluator.compare({"modes": SPEC}, test.images).values()
  real, fake = (x.images.reshape(len(x.images), -1) for x in (train, test))
  modes = metrics.get("modes", labels=train.labels)
  assert record.values == modes(real, fake).values
  assert record.values["modes"] == 10 and not fits


def test_modes_of_data_without_labels_are_a_user_error(fits):
  train = toy.load("train", kind="line")
  evaluator = evaluate.Evaluator("toy", train, train)
  for use in (
    lambda: evaluator.prepare({"modes": SPEC}),
    lambda: evaluator.compare({"modes": SPEC}, train.images),
  ):
    with pytest.raises(errors.UserError, match="no labels"):
      use()


def test_the_table_names_counts_and_what_was_compared(fits):
  train, test = toy.load("train"), toy.load("test", num_examples=500)
  evaluator = evaluate.Evaluator("toy", train, test)
  modes = evaluator.compare({"modes": SPEC}, test.images)
  cells = report._cells(modes)
  assert cells["modes covered"] == "8 of 8" and "modes" not in cells
  assert len(cells["high quality"]) == len("0.988")
  text = "against 10000 training points; 500 held-out points"
  assert report._protocol(evaluator, modes) == text
  assert not fits
  both = evaluator.compare({"modes": SPEC, "classes": SPEC}, test.images)
  assert report._protocol(evaluator, both) == (
    "against 10000 training points, in the features of classifier:toy (test "
    "accuracy 50.0 %); 500 held-out points"
  )
  assert report._cells(both)["classes covered"].endswith(" of 8")
  many = metrics.Record({"modes_covered": 999, "modes": 12345}, {})
  assert report._cells({"modes": many}) == {"modes covered": "999 of 12345"}
