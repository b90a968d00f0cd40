import inspect
import json

import numpy as np
import pytest
import scipy.linalg
import scipy.special

from ganjax import errors, registry
from ganjax.data import toy
from ganjax.evaluation import extractors, metrics


def example(name, num_real=50, num_fake=40):
  """Returns inputs of any metric, and what its factory is given with them."""
  on = metrics.input_of(name)
  rng = np.random.RandomState(0)
  num_fake = num_real if metrics.needs(name) else num_fake

  def draw(num):
    if on == "images":
      return rng.randint(0, 256, (num, 16, 16, 3)).astype(np.uint8)
    return rng.normal(size=(num, 4))

  given = dict(
    labels=np.arange(num_real) % 2,
    fake_labels=np.arange(num_fake) % 2,
    held_out=draw(30),
    held_out_labels=np.arange(30) % 2,
    validation=draw(20),
  )
  assert given.keys() == metrics.GIVEN.keys()
  wanted = inspect.signature(metrics.find(name)).parameters
  given = {k: v for k, v in given.items() if k in wanted}
  return draw(num_real), draw(num_fake), given


# Those of abilities with a form of their own: tests/test_metrics_of_abilities.
OF_SAMPLES = [
  name for name in metrics.names() if metrics.needs(name) in ("", "reconstruct")
]


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_every_metric_says_what_it_compares_and_has_plain_defaults(name):
  on = metrics.input_of(name)
  assert on in (*extractors.Features._fields, "samples", "images")
  for hyper in inspect.signature(metrics.find(name)).parameters.values():
    given = hyper.name in metrics.GIVEN  # By the evaluator, not by a config.
    assert given or isinstance(hyper.default, (bool, int, float, str))
  real, fake, given = example(name)
  before = real.copy(), fake.copy()
  record = metrics.get(name, **given)(real, fake)
  assert record.protocol["num_real"] == 50
  assert record.protocol["num_fake"] == len(fake)
  assert np.isfinite(list(record.values.values())).all()
  assert json.loads(json.dumps(record.to_dict(), allow_nan=False)) == {
    "values": record.values,
    "protocol": record.protocol,
    "flags": list(record.flags),
  }
  np.testing.assert_array_equal(real, before[0])
  np.testing.assert_array_equal(fake, before[1])
  better = metrics.find(name).declaration.better
  assert better.keys() <= record.values.keys()
  assert {*better.values()} <= {"lower", "higher"}
  for value, direction in better.items():
    assert metrics.better(value) == direction


@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_samples_are_a_user_error_of_one_line(name, bad):
  real, fake, given = example(name, 12, 12)
  real, fake = real / 255, fake / 255
  fake[2, 1] = bad
  with pytest.raises(errors.UserError, match="1 of 12 fake .* not finite") as e:
    metrics.get(name, **given)(real, fake)
  assert "\n" not in str(e.value)


def test_values_of_two_metrics_have_two_names():
  own = [n for n in metrics.names() if not registry.origin(metrics.find(n))]
  seen = [value for n in own for value in metrics.values_of(n)]
  assert len(seen) == len(set(seen))


def test_an_unknown_metric_is_named_beside_the_known_ones():
  with pytest.raises(errors.UserError, match="'frechet'"):
    metrics.get("freche")


def test_a_record_spells_what_json_cannot_hold():
  record = metrics.Record(
    {"a": float("inf"), "b": float("nan")}, {"n": np.int64(3)}
  )
  assert record.to_dict() == {
    "values": {"a": "inf", "b": "nan"},
    "protocol": {"n": 3},
    "flags": [],
  }
  assert type(record.to_dict()["protocol"]["n"]) is int


def one_hot(counts):
  labels = np.repeat(np.arange(len(counts)), counts)
  return 5.0 * np.eye(len(counts))[labels]


def test_classes_by_hand():
  # Shares .4 .4 .2 against .75 .24 .01: a tenth of .2 is more than .01.
  record = metrics.get("classes")(one_hot([4, 4, 2]), one_hot([75, 24, 1]))
  kl = scipy.special.rel_entr([0.75, 0.24, 0.01], [0.4, 0.4, 0.2]).sum()
  assert record.values["classes"] == 3
  assert record.values["classes_covered"] == 2
  np.testing.assert_allclose(record.values["class_kl"], kl, rtol=1e-12)
  enough = metrics.get("classes")(one_hot([4, 4, 2]), one_hot([74, 24, 2]))
  assert enough.values["classes_covered"] == 3


@pytest.mark.parametrize(
  "real, fake, covered, kl",
  [
    ([5, 5], [7, 7], 2, 0.0),
    ([5, 5], [9, 0], 1, np.log(2)),
    ([5, 0], [5, 5], 1, np.inf),
  ],
)
def test_classes_at_the_edges(real, fake, covered, kl):
  values = metrics.get("classes")(one_hot(real), one_hot(fake)).values
  assert values["classes_covered"] == covered
  np.testing.assert_allclose(values["class_kl"], kl, atol=1e-12)


# Three modes around (0, 0), (10, 0) and (0, 10), with deviation 1: every
# real lies 1 from its centre along each axis.
CENTRES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
CORNERS = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
REAL = (CENTRES[:, None] + CORNERS).reshape(12, 2)
LABELS = np.repeat([4, 7, 9], 4)  # Any names will do.


def mode_values(fake, real=REAL, labels=LABELS, **hyper):
  return metrics.get("modes", labels=labels, **hyper)(real, fake).values


def test_modes_by_hand():
  fake = [
    [0.0, 3.0],  # Just near enough to the first.
    [0.0, 3.01],  # Not quite.
    [3.0, -4.0],  # 5 away.
    [10.0, 0.0],  # The second.
    [0.0, 14.0],  # The third is nearest, 4 away.
  ]
  values = mode_values(fake)
  p, q = np.array([3, 1, 1]) / 5, np.full(3, 1 / 3)
  kl = scipy.special.rel_entr(p, q).sum()
  assert values["modes_covered"] == 2 and values["modes"] == 3
  assert values["high_quality"] == 0.4
  np.testing.assert_allclose(values["mode_kl"], kl, rtol=1e-12)
  wide = mode_values(fake, sigmas=4.0)
  assert (wide["modes_covered"], wide["high_quality"]) == (3, 0.8)
  assert wide["mode_kl"] == values["mode_kl"]


def test_the_deviation_is_pooled_over_modes_and_coordinates():
  # Squares of 4 and 4, all others 0, over four reals with two coordinates:
  # the deviation is 1. That of the first mode alone would be sqrt 2.
  real = np.array([[2.0, 0.0], [-2.0, 0.0], [20.0, 0.0], [20.0, 0.0]])
  for x, good in ((2.99, 1), (3.01, 0)):
    values = mode_values([[0.0, x]], real, [0, 0, 1, 1])
    assert values["high_quality"] == good


@pytest.mark.parametrize("kind, num", [("ring", 8), ("grid", 25)])
def test_the_toy_sets_cover_themselves(kind, num):
  train, test = (toy.load(split, kind=kind) for split in ("train", "test"))
  values = mode_values(train.images, train.images, train.labels)
  assert values["modes_covered"] == values["modes"] == num
  assert values["mode_kl"] == 0
  # Rayleigh's: the share within three deviations of a Gaussian in the plane.
  within = 1 - np.exp(-4.5)
  np.testing.assert_allclose(values["high_quality"], within, atol=0.004)
  held_out = mode_values(test.images, train.images, train.labels)
  assert held_out["modes_covered"] == num and held_out["mode_kl"] < 0.01


def test_a_collapsed_generator_covers_one_mode():
  train = toy.load("train")
  collapsed = np.repeat(toy.centres("ring")[3:4], 100, axis=0)
  values = mode_values(collapsed, train.images, train.labels)
  share = np.mean(train.labels == 3)
  assert values["modes_covered"] == 1 and values["high_quality"] == 1
  np.testing.assert_allclose(values["mode_kl"], -np.log(share), rtol=1e-12)
  far = mode_values(collapsed * 2, train.images, train.labels)
  assert far["modes_covered"] == far["high_quality"] == 0
  assert far["mode_kl"] == values["mode_kl"]  # Of all samples, good or not.


@pytest.mark.parametrize(
  "given, real, text",
  [
    (dict(labels=None), 12, "no labels"),
    (dict(labels=LABELS, sigmas=0.0), 12, "sigmas is 0"),
    (dict(labels=LABELS[:5]), 12, r"\(5,\) .* 12 real"),
    (dict(labels=LABELS[:0]), 0, "0 real samples"),
  ],
)
def test_modes_refuse_what_has_none(given, real, text):
  with pytest.raises(errors.UserError, match=text) as e:
    metrics.get("modes", **given)(REAL[:real], REAL)
  assert "\n" not in str(e.value)
