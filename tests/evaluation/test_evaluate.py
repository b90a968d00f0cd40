import json

import jax
import numpy as np
import pytest
from verbs import Verb

from ganjax import errors
from ganjax.data import cache, digits, toy
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import extractors, metrics, protocols, table
from ganjax.evaluation.extractors import classifier
from ganjax.runs import scoring as sources

command = Verb("evaluate")


pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def fits(monkeypatch):
  """A list of the classifiers that an evaluator trains; they are not fitted."""
  calls = []

  def fit(train, test, folder, name):
    del test, folder
    calls.append(name)
    net = classifier.Classifier(train.num_classes)
    params = net.init(jax.random.key(0), train.images[:1])["params"]
    return classifier.TrainedClassifier(name, train.num_classes, params, 0.5)

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
  cells = table.cells(modes)
  assert cells["modes covered"] == "8 of 8" and "modes" not in cells
  assert len(cells["high quality"]) == len("0.988")
  text = "against 10000 training points; 500 held-out points"
  assert table.protocol({"test": modes}, evaluator) == text
  assert not fits
  both = evaluator.compare({"modes": SPEC, "classes": SPEC}, test.images)
  assert table.protocol({"test": both}, evaluator) == (
    "against 10000 training points, in the features of classifier:toy (test "
    "accuracy 50.0 %); 500 held-out points"
  )
  assert table.cells(both)["classes covered"].endswith(" of 8")


def test_cells_by_hand():
  record = metrics.Record
  values = {"modes_covered": 999, "modes": 12345}
  assert table.cells({"modes": record(values, {})}) == {
    "modes covered": "999 of 12345"
  }
  values = {"kernel_mean": 0.01234, "kernel_std": 0.002, "parzen": 243.61}
  values |= {"parzen_error": 2.14, "classes_covered": 9, "classes": 10}
  assert table.cells({"all": record(values, {}, ("constant",))}) == {
    "kernel": "0.0123 ± 0.002*",
    "parzen": "243.6 ± 2.1*",
    "classes covered": "9 of 10*",
  }
  for value, text in (2533.3, "2,533"), (-999.6, "-1,000"), (999.4, "999"):
    expected = {"frechet": text}
    assert table.cells({"x": record({"frechet": value}, {})}) == expected
  assert table.flags({"x": {"all": record(values, {}, ("constant",))}}) == [
    "* x, all: constant"
  ]


def test_a_record_comes_back_from_json():
  record = metrics.Record({"a": float("inf"), "b": 2}, {"n": 3}, ("odd",))
  text = json.dumps(record.to_dict(), allow_nan=False)
  assert metrics.Record.from_dict(json.loads(text)) == record


def test_what_differs_is_refused_with_the_difference():
  one = dict(num_fake=10, resize="tf1", step=3, weights="ema")
  protocols.check_same("frechet", one, one | dict(step=4))
  protocols.check_same("frechet", one, dict(num_fake=10, resize="tf1"))
  other = one | dict(num_fake=20, weights="live", share=0.1)
  with pytest.raises(errors.UserError) as e:
    protocols.check_same("frechet", one, other)
  assert str(e.value) == (
    "frechet cannot be compared, its protocols differ: num_fake 10 and 20; "
    "share unstated and 0.1; weights ema and live"
  )


def test_features_of_a_split_are_kept_on_disk(fits, monkeypatch):
  train, test = digits.load("train"), digits.load("test")
  extracted = []
  call = classifier.TrainedClassifier.__call__

  def count(self, images):
    extracted.append(len(images))
    return call(self, images)

  monkeypatch.setattr(classifier.TrainedClassifier, "__call__", count)
  specs = {"frechet": SPEC, "classes": SPEC}
  records = []
  for _ in range(2):
    evaluator = evaluate.Evaluator("digits", train, test)
    records.append(evaluator.compare(specs, test.images))
  # The second time it does not see the training split.
  assert extracted in ([1437, 360, 360], [360, 360])
  assert records[0] == records[1]
  folder = cache.root() / "features"
  for path in folder.iterdir():
    path.write_bytes(path.read_bytes()[:-100])
  evaluator = evaluate.Evaluator("digits", train, test)
  with pytest.warns(UserWarning, match="damaged"):
    assert evaluator.compare(specs, test.images) == records[0]
  assert extracted[-2:] == [1437, 360]


def test_samples_of_one_image_are_flagged(fits):
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test)
  same = np.repeat(test.images[:1], 300, axis=0)
  specs = {"classes": SPEC, "frechet": SPEC}
  for record in evaluator.compare(specs, same).values():
    assert "constant" in record.flags
    assert np.isfinite(list(record.values.values())).all()
  with pytest.raises(errors.UserError, match=r"uint8 \[8, 8, 1\]"):
    evaluator.compare(specs, test.images[:, ::2, ::2])
  with pytest.raises(errors.UserError, match="no samples"):
    evaluator.compare(specs, test.images[:0])


def test_metrics_are_given_what_they_ask_for(fits, monkeypatch):
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test, validation=test)
  given = {}

  def factory(labels, fake_labels, held_out, held_out_labels, validation, k=3):
    given.update(locals())
    return lambda real, fake: metrics.Record({"x": 1.0}, {})

  monkeypatch.setattr(metrics, "find", lambda name: factory)
  monkeypatch.setattr(metrics, "input_of", lambda name: "images")
  monkeypatch.setattr(metrics, "get", lambda name, **hyper: factory(**hyper))
  labels = np.zeros(360, int)
  evaluator.compare({"any": SPEC | dict(k=5)}, test.images, labels)
  assert given["labels"] is train.labels and given["fake_labels"] is labels
  assert given["held_out"] is test.images and given["k"] == 5
  assert given["held_out_labels"] is test.labels
  assert given["validation"] is test.images
  assert not fits


def evaluate_main(*args):
  return command.main([str(arg) for arg in args])


@pytest.fixture
def arrays(tmp_path):
  """A file of 200 digits and their labels."""
  train = digits.load("train")
  path = tmp_path / "samples.npz"
  np.savez(path, images=train.images[:200], labels=train.labels[:200])
  return path


def test_an_array_is_scored_once(fits, arrays, tmp_path, capsys, monkeypatch):
  out = tmp_path / "result.json"
  call = arrays, "--against", "digits:test", "--out", out
  call += "--metrics", "frechet,classes:share=0.2"
  assert evaluate_main(*call) == 0
  first, text = json.loads(out.read_text()), capsys.readouterr().out
  assert "against 360 held-out images" in text and "features" in text
  record = first["samples.npz"]["frechet"]
  assert record["protocol"]["num_fake"] == 200
  assert record["protocol"]["against"] == "test"
  assert record["values"]["frechet"] > 0
  monkeypatch.setattr(metrics, "get", None)
  monkeypatch.setattr(evaluate.Evaluator, "prepare", lambda *_: None)
  assert evaluate_main(*call) == 0
  assert json.loads(out.read_text()) == first
  assert "from earlier evaluations" in capsys.readouterr().out


def test_a_result_stands_beside_one_of_its_protocol(
  fits, arrays, tmp_path, capsys
):
  out = tmp_path / "result.json"
  call = arrays, "--against", "digits:test", "--metrics", "frechet"
  assert evaluate_main(*call, "--out", out) == 0
  assert evaluate_main(*call, "--than", out) == 0
  assert "samples.npz of result.json" in capsys.readouterr().out
  assert evaluate_main(*call, "--than", out, "--num", 100) == 2
  message = capsys.readouterr().err
  assert "protocols differ: num_fake 100 and 200" in message
  assert message.count("\n") == 1
  out.write_text("[]")
  assert evaluate_main(*call, "--than", out) == 2


def test_a_folder_is_scored_with_its_classes(fits, tmp_path, capsys):
  from PIL import Image

  test = digits.load("test")
  for i in range(20):
    path = tmp_path / "images" / str(test.labels[i]) / f"{i:02d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(test.images[i, :, :, 0]).save(path)
  source = sources.of_path(tmp_path / "images", test.images)
  assert source.num == 20 and len(source.draw(7, seed=0)) == 7
  found = {x.tobytes() for x in source.draw(20, seed=0)}
  assert found == {x.tobytes() for x in test.images[:20]}
  call = tmp_path / "images", "--against", "digits", "--metrics", "classes"
  assert evaluate_main(*call) == 0
  assert "images" in capsys.readouterr().out


def write(path, what):
  images = np.zeros((30, 8, 8, 1), np.uint8)
  if what == "pickle":
    np.savez(path, images=np.array([{"a": 1}], object))
  elif what == "truncated":
    np.savez(path, images=images)
    path.write_bytes(path.read_bytes()[:-60])
  elif what == "float":
    np.savez(path, images=images / 255)
  elif what == "labels":
    np.savez(path, images=images, labels=np.zeros(3))
  elif what == "other":
    np.savez(path, pictures=images)
  elif what == "large":
    np.savez(path, images=np.zeros((30, 9, 9, 1), np.uint8))


@pytest.mark.parametrize(
  "what, flags, text",
  [
    ("missing", "", "no such workdir"),
    ("pickle", "", "no readable .npz"),
    ("truncated", "", "no readable .npz"),
    ("float", "", "must be uint8"),
    ("labels", "", "not one for each of 30"),
    ("other", "", 'holds pictures, no "images"'),
    ("large", "", "cannot be compared with those of digits"),
    ("good", "--num 1000", "holds 200 samples, not 1000"),
    ("good", "--num -1", "0 or more"),
    ("good", "--step best", "is for a workdir"),
    ("good", "--against ", "--against cifar10:train"),
    ("good", "--metrics fid", "unknown metric 'fid'"),
    ("good", "--metrics frechet:k=3", "--metrics frechet.k"),
    ("good", "--metrics modes:sigmas=-1", "sigmas"),
    ("good", "--metrics modes:sigmas", "key=value"),
    ("good", "--extractor inceptoin", "did you mean 'inception'"),
    ("good", "--against digits:tset", "'tset'"),
  ],
)
def test_mistakes_end_in_one_line(what, flags, text, fits, arrays, capsys):
  path = arrays if what == "good" else arrays.with_name("bad.npz")
  write(path, what)
  call = ["--against", "digits", "--metrics", "frechet"]
  assert evaluate_main(path, *call, *(flags.split(" ") if flags else [])) == 2
  message = capsys.readouterr().err
  assert text in message and message.count("\n") == 1


def test_points_that_are_not_finite_are_refused(tmp_path, capsys):
  points = np.zeros((20, 2), np.float32)
  points[3, 0] = np.nan
  np.save(tmp_path / "points.npy", points)
  call = tmp_path / "points.npy", "--against", "toy", "--metrics", "modes"
  assert evaluate_main(*call) == 2
  assert "1 of 20 fake samples are not finite" in capsys.readouterr().err


def test_published_statistics(fits, arrays, tmp_path, monkeypatch, capsys):
  train = digits.load("train")
  net = classifier.fit(train, train, tmp_path, "digits")
  monkeypatch.setitem(extractors.EXTRACTORS, "stub", lambda *_: net)
  features = net(train.images).features
  path = tmp_path / "stats.npz"
  np.savez(path, mu=features.mean(axis=0), sigma=np.cov(features.T))
  out = tmp_path / "result.json"
  call = arrays, "--out", out, "--against", path, "--metrics"
  assert evaluate_main(*call, "frechet", "--extractor", "stub") == 0
  assert "against the statistics of" in capsys.readouterr().out
  record = json.loads(out.read_text())["samples.npz"]["frechet"]
  direct = metrics.get("frechet")(features, net(train.images[:200]).features)
  np.testing.assert_allclose(
    record["values"]["frechet"], direct.values["frechet"], rtol=1e-4
  )
  assert record["protocol"]["num_real"] == "unknown"
  for flags, text in (
    (["prdc", "--extractor", "stub"], "use --metrics frechet"),
    (["frechet"], "say of which"),
  ):
    assert evaluate_main(*call, *flags) == 2
    assert text in capsys.readouterr().err


def test_pairs_are_held_out_images_and_what_is_left_of_them(fits):
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test)
  seen = []

  def rebuild(images, labels):
    seen.append((images, labels))
    return images // 2

  spec = {"reconstruction": dict(num_samples=50)}
  record = evaluator.score(spec, None, None, dict(reconstruct=rebuild))[
    "reconstruction"
  ]
  images, labels = seen[0]
  np.testing.assert_array_equal(images, test.images[:50])
  np.testing.assert_array_equal(labels, test.labels[:50])
  direct = metrics.get("reconstruction")(images, images // 2)
  assert record.values == direct.values and not fits
  assert record.protocol["against"] == "test"
  with pytest.raises(errors.UserError, match="no 'reconstruct'"):
    evaluator.score(spec, None)


def test_a_score_is_found_again_only_where_nothing_differs(fits):
  train, test = digits.load("train"), digits.load("test")
  evaluator = evaluate.Evaluator("digits", train, test)
  shifted = test.replace(images=test.images[::-1])
  source = sources.of_arrays(test, "test")._replace(protocol=dict(step=1))
  spec = dict(num_samples=50)
  others = [
    (evaluator, source._replace(digest="other"), "frechet", spec),
    (evaluator, source._replace(protocol=dict(step=2)), "frechet", spec),
    (evaluator, source, "classes", spec),
    (evaluator, source, "frechet", dict(num_samples=51)),
    (evaluate.Evaluator("digits", train, shifted), source, "frechet", spec),
    (evaluate.Evaluator("digits", test, test), source, "frechet", spec),
    (
      evaluate.Evaluator("digits", train, test, against="test"),
      source,
      "frechet",
      spec,
    ),
  ]
  names = {sources._file(*other) for other in others}
  same = sources._file(evaluator, source, "frechet", spec)
  assert len(names) == len(others) and same not in names
  again = evaluate.Evaluator("digits", train, test)
  assert same == sources._file(again, source, "frechet", dict(spec))
