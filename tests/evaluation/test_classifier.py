import jax
import numpy as np
import pytest

from ganjax import data, errors
from ganjax.data import digits, toy
from ganjax.evaluation import extractors, metrics
from ganjax.evaluation.extractors import classifier


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
  frechet = metrics.get("frechet")
  held_out = frechet(real, extractor(test.images).features)
  held_out = held_out.values["frechet"]
  assert 0 < held_out < 10
  far = extractor(noise.astype(np.uint8)).features
  assert frechet(real, far).values["frechet"] > 10 * held_out


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
  images = splits[0].images[: extractors.CHUNK + 44]
  whole = extractor(images)
  for start, stop in [(0, 1), (5, 20), (200, extractors.CHUNK + 44)]:
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
