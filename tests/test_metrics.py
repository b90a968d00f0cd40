import inspect
import json

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.special

from ganjax import data, errors, evaluate, metrics, report
from ganjax.data import digits, toy
from ganjax.metrics import classifier


def with_moments(num, mean, cov, seed=0):
  """Returns samples whose mean and covariance are exactly these."""
  x = np.random.RandomState(seed).normal(size=(num, len(mean)))
  x -= x.mean(axis=0)
  white = np.linalg.solve(np.linalg.cholesky(np.cov(x.T)), x.T).T
  return white @ np.linalg.cholesky(cov).T + mean


def frechet(real, fake):
  return metrics.get("frechet")(real, fake).values["frechet"]


def metric_of(name, num_real):
  """Returns a metric of any name; its labels are 0 and 1, if it needs some."""
  needs_labels = "labels" in inspect.signature(metrics.find(name)).parameters
  given = {"labels": np.arange(num_real) % 2} if needs_labels else {}
  return metrics.get(name, **given)


def random_cov(rng, dims):
  root = rng.normal(size=(dims, dims))
  return root @ root.T + 0.1 * np.eye(dims)


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_says_what_it_compares_and_has_plain_defaults(name):
  assert metrics.input_of(name) in (*classifier.Features._fields, "samples")
  for hyper in inspect.signature(metrics.find(name)).parameters.values():
    given = hyper.name == "labels"  # By the evaluator, not by a config.
    assert given or isinstance(hyper.default, (bool, int, float, str))
  x = np.random.RandomState(0).normal(size=(50, 4))
  record = metric_of(name, 50)(x, x[:40])
  assert record.protocol["num_real"] == 50
  assert record.protocol["num_fake"] == 40
  assert json.loads(json.dumps(record.to_dict(), allow_nan=False)) == {
    "values": record.values,
    "protocol": record.protocol,
  }


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_samples_are_a_user_error_of_one_line(name, bad):
  fake = np.zeros((5, 3))
  fake[2, 1] = bad
  with pytest.raises(errors.UserError, match="1 of 5 fake .* not finite") as e:
    metric_of(name, 5)(np.zeros((5, 3)), fake)
  assert "\n" not in str(e.value)


def test_an_unknown_metric_is_named_beside_the_known_ones():
  with pytest.raises(errors.UserError, match="'frechet'") as e:
    metrics.get("freche")
  assert "classifier" not in str(e.value)  # A helper, not a metric.


def test_a_record_spells_what_json_cannot_hold():
  record = metrics.Record(
    {"a": float("inf"), "b": float("nan")}, {"n": np.int64(3)}
  )
  assert record.to_dict() == {
    "values": {"a": "inf", "b": "nan"},
    "protocol": {"n": 3},
  }
  assert type(record.to_dict()["protocol"]["n"]) is int


def test_frechet_of_commuting_gaussians_has_a_closed_form():
  rng = np.random.RandomState(1)
  basis, _ = np.linalg.qr(rng.normal(size=(5, 5)))
  a, b = rng.uniform(0.1, 4, size=(2, 5))
  mean = rng.normal(size=5)
  real = with_moments(40, np.zeros(5), basis * a @ basis.T, 2)
  fake = with_moments(30, mean, basis * b @ basis.T, 3)
  expected = mean @ mean + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
  np.testing.assert_allclose(frechet(real, fake), expected, rtol=1e-9)


def test_frechet_in_one_dimension_divides_by_n_minus_1():
  # Means 0 and 4, variances 2 and 8: 16 + (sqrt 8 - sqrt 2)^2 = 18.
  real, fake = np.array([[-1.0], [1.0]]), np.array([[2.0], [6.0]])
  np.testing.assert_allclose(frechet(real, fake), 18, rtol=1e-12)


def test_frechet_agrees_with_the_matrix_square_root():
  rng = np.random.RandomState(4)
  a, b = random_cov(rng, 8), random_cov(rng, 8)
  root = scipy.linalg.sqrtm(a @ b)
  expected = np.trace(a + b - 2 * np.real(root))
  real, fake = (with_moments(50, np.zeros(8), c, 5) for c in (a, b))
  np.testing.assert_allclose(frechet(real, fake), expected, rtol=1e-8)
  np.testing.assert_allclose(frechet(fake, real), expected, rtol=1e-8)


def test_frechet_of_a_shift_is_its_square_and_of_nothing_is_0():
  x = np.random.RandomState(6).normal(size=(60, 7)).astype(np.float32)
  shift = np.arange(7) / 2
  assert 0 <= frechet(x, x) < 1e-9
  np.testing.assert_allclose(
    frechet(x, x.astype(float) + shift), shift @ shift, rtol=1e-9
  )


@pytest.mark.parametrize("num, flag", [(4, True), (8, True), (9, False)])
def test_frechet_says_when_a_covariance_is_rank_deficient(num, flag):
  x = np.random.RandomState(7).normal(size=(20, 8))
  record = metrics.get("frechet")(x, x[:num])
  assert record.protocol == {
    "num_real": 20,
    "num_fake": num,
    "dims": 8,
    "rank_deficient": flag,
  }
  assert np.isfinite(record.values["frechet"])
  # A collapsed generator is a result, not a crash.
  collapsed = np.repeat(x[:1], 20, axis=0)
  mean, cov = x.mean(axis=0), np.cov(x.T)
  expected = np.sum((mean - x[0]) ** 2) + np.trace(cov)
  np.testing.assert_allclose(frechet(x, collapsed), expected, rtol=1e-6)


@pytest.mark.parametrize(
  "real, fake, text",
  [
    ((5, 3), (1, 3), "1 fake samples are too few"),
    ((0, 3), (5, 3), "0 real samples are too few"),
    ((5, 3), (5, 2), r"\(5, 3\) and fake \(5, 2\)"),
    ((5,), (5,), r"\[N, d\]"),
  ],
)
def test_frechet_refuses_what_has_no_covariance(real, fake, text):
  with pytest.raises(errors.UserError, match=text):
    frechet(np.zeros(real), np.zeros(fake))


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


@pytest.fixture
def trainings(monkeypatch):
  """A list that grows with every training; none takes place."""
  calls = []

  def untrained(train, name):
    calls.append(name)
    net = classifier.Classifier(train.num_classes)
    return net.init(jax.random.key(0), train.images[:1])["params"]

  monkeypatch.setattr(classifier, "_train", untrained)
  return calls


@pytest.fixture(scope="module")
def splits():
  return digits.load("train"), digits.load("test")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("classifiers") / "not" / "there"


@pytest.fixture(scope="module")
def extractor(splits, cache_dir):
  return classifier.fit(splits[0], splits[1], cache_dir, "digits")


def test_the_classifier_reads_digits(extractor, splits):
  assert extractor.accuracy >= 0.97
  assert extractor.name == "classifier:digits"
  features, logits = extractor(splits[1].images)
  assert features.shape == (360, 64) and logits.shape == (360, 10)
  assert features.dtype == logits.dtype == np.float32
  accuracy = np.mean(logits.argmax(axis=1) == splits[1].labels)
  assert accuracy == extractor.accuracy


def test_features_tell_real_digits_from_noise(extractor, splits):
  train, test = splits
  noise = np.random.RandomState(0).randint(0, 256, test.images.shape)
  real = extractor(train.images).features
  held_out = frechet(real, extractor(test.images).features)
  assert 0 < held_out < 10
  far = extractor(noise.astype(np.uint8)).features
  assert frechet(real, far) > 10 * held_out


def test_training_is_deterministic(extractor, splits, tmp_path):
  again = classifier.fit(splits[0], splits[1], tmp_path, "digits")
  assert again is not extractor
  assert again.digest == extractor.digest
  assert again.accuracy == extractor.accuracy


def test_the_cache_is_read_and_not_trained_again(
  extractor, splits, cache_dir, trainings
):
  again = classifier.fit(splits[0], splits[1], cache_dir, "digits")
  assert not trainings
  assert (again.digest, again.accuracy) == (
    extractor.digest,
    extractor.accuracy,
  )
  images = splits[1].images[:9]
  np.testing.assert_array_equal(
    again(images).features, extractor(images).features
  )
  assert len(list(cache_dir.iterdir())) == 1  # And no temporary file.


def test_an_image_has_its_features_in_any_company(extractor, splits):
  images = splits[0].images[: classifier.CHUNK + 44]
  whole = extractor(images)
  for start, stop in [(0, 1), (5, 20), (200, classifier.CHUNK + 44)]:
    part = extractor(images[start:stop])
    np.testing.assert_array_equal(part.features, whole.features[start:stop])
    np.testing.assert_array_equal(part.logits, whole.logits[start:stop])
  assert extractor._apply._cache_size() == 1  # The last chunk is padded.
  assert extractor(images[:0]).features.shape == (0, 64)


def points(num, num_classes=2):
  rng = np.random.RandomState(num)
  labels = rng.randint(num_classes, size=num).astype(np.int32)
  x = rng.normal(size=(num, 2)) * 0.1 + labels[:, None]
  return data.Arrays(x.astype(np.float32), labels, num_classes)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_damaged_cache_is_trained_anew(tmp_path, trainings, damage):
  splits = points(100), points(50)
  first = classifier.fit(splits[0], splits[1], tmp_path, "points")
  (path,) = tmp_path.iterdir()
  content = path.read_bytes()
  middle = len(content) // 2
  path.write_bytes(
    {
      "truncated": content[:middle],
      "flipped": content[:middle]
      + bytes([content[middle] ^ 64])
      + content[middle + 1 :],
      "text": b"not a zip file",
      "empty": b"",
    }[damage]
  )
  with pytest.warns(UserWarning, match="damaged"):
    again = classifier.fit(splits[0], splits[1], tmp_path, "points")
  assert len(trainings) == 2 and again.digest == first.digest
  classifier.fit(splits[0], splits[1], tmp_path, "points")
  assert len(trainings) == 2


def test_parameters_without_their_digest_are_trained_anew(tmp_path, trainings):
  splits = points(100), points(50)
  classifier.fit(splits[0], splits[1], tmp_path, "points")
  (path,) = tmp_path.iterdir()
  arrays = dict(np.load(path))
  arrays["Dense_0/kernel"] = arrays["Dense_0/kernel"] + 1
  np.savez(path, allow_pickle=False, **arrays)
  with pytest.warns(UserWarning, match="digest"):
    classifier.fit(splits[0], splits[1], tmp_path, "points")
  assert len(trainings) == 2


def test_other_data_have_their_own_classifier(tmp_path, trainings):
  train, test = points(100), points(50)
  classifier.fit(train, test, tmp_path, "points")
  classifier.fit(points(101), test, tmp_path, "points")
  classifier.fit(train, points(51), tmp_path, "points")
  classifier.fit(
    data.Arrays(train.images, train.labels, 3), test, tmp_path, "points"
  )
  assert len(trainings) == 4


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, trainings):
  blocked = tmp_path / "file"
  blocked.write_text("in the way")
  with pytest.warns(UserWarning, match="not kept"):
    classifier.fit(points(100), points(50), blocked, "points")
  assert len(trainings) == 1


def test_points_are_classified_by_their_mode(tmp_path):
  splits = [toy.load(split, kind="grid") for split in ("train", "test")]
  assert classifier.fit(splits[0], splits[1], tmp_path, "toy").accuracy > 0.99


@pytest.mark.parametrize("shape", [(8, 8, 3), (28, 28, 1), (64, 48, 3)])
def test_images_of_any_size_have_64_features(shape):
  net = classifier.Classifier(7)
  images = jax.ShapeDtypeStruct((2, *shape), np.uint8)
  (features, logits), _ = jax.eval_shape(
    net.init_with_output, jax.random.key(0), images
  )
  assert features.shape == (2, 64) and logits.shape == (2, 7)


def test_a_dataset_without_labels_is_a_user_error(tmp_path):
  line = [toy.load(split, kind="line") for split in ("train", "test")]
  with pytest.raises(errors.UserError, match="'toy' has no labels"):
    classifier.fit(line[0], line[1], tmp_path, "toy")


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

  monkeypatch.setattr(evaluate, "classifier", classifier)
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
  flat = [x.images.reshape(len(x.images), -1) for x in (train, test)]
  assert record.values == mode_values(flat[1], flat[0], train.labels)
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
