"""TFD from a file of the form that the database has, made of small numbers."""

import numpy as np
import pytest
from scipy import io

from ganjax import errors
from ganjax.data import tfd
from ganjax.objectives import schedules
from ganjax.runs import configs

# What each of nine images is for in fold 0; fold 2 has validation and test
# exchanged.
FOLD = np.array([0, 1, 2, 3, 0, 1, 2, 3, 3])
LABELS = np.array([-1, 1, 2, 3, -1, 7, 6, 5, 4])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("GANJAX_CACHE", str(tmp_path / "cache"))
  return tmp_path


def write(folder, size=48, **changed):
  """Writes image i with the value i at its left edge, 100 + i on top of it."""
  images = np.zeros((9, size, size), np.uint8)
  images[:, :, 0] = np.arange(9)[:, None]
  images[:, 0, 1:] = 100 + np.arange(9)[:, None]
  folds = np.zeros((9, 5), np.uint8)
  folds[:, 0] = FOLD
  folds[:, 2] = np.array([0, 1, 3, 2])[FOLD]
  arrays = dict(images=images, folds=folds, labs_ex=LABELS[:, None])
  arrays |= dict(labs_id=np.arange(9)) | changed
  arrays = {k: v for k, v in arrays.items() if v is not None}
  io.savemat(str(folder / f"TFD_{size}x{size}.mat"), arrays)


def which(arrays):
  return arrays.images[:, -1, 0, 0].tolist()


def failure(folder, split="train", **options):
  with pytest.raises(errors.UserError) as caught:
    tfd.load(split, folder and str(folder), **options)
  (line,) = str(caught.value).splitlines()
  return line


@pytest.mark.parametrize(
  ("split", "options", "images", "labels"),
  [
    ("train", {}, [0, 4], None),
    ("unlabeled", {}, [0, 4], None),
    ("train", dict(train_split="labeled"), [1, 5], [0, 6]),
    ("train", dict(train_split="unlabeled + labeled"), [0, 1, 4, 5], None),
    ("labeled+validation", {}, [1, 2, 5, 6], [0, 1, 6, 5]),
    ("validation", {}, [2, 6], [1, 5]),
    ("test", {}, [3, 7, 8], [2, 4, 3]),
    ("test", dict(fold=2), [2, 6], [1, 5]),
    ("validation", dict(validation_split="test"), [3, 7, 8], [2, 4, 3]),
  ],
)
def test_splits_are_those_of_the_fold(folder, split, options, images, labels):
  write(folder)
  arrays = tfd.load(split, str(folder), **options)
  assert arrays.images.shape == (len(images), 48, 48, 1)
  assert arrays.images.dtype == np.uint8 and which(arrays) == images
  # Rows are rows: what stands on top in the file stands on top here.
  assert arrays.images[:, 0, 5, 0].tolist() == [100 + i for i in images]
  if labels is None:
    assert arrays.labels is None and arrays.num_classes == 0
  else:
    assert arrays.labels.dtype == np.int32 and arrays.num_classes == 7
    assert arrays.labels.tolist() == labels


def test_the_larger_images_have_a_file_of_their_own(folder):
  write(folder, 96)
  assert tfd.load("test", str(folder), size=96).images.shape == (3, 96, 96, 1)
  assert "TFD_48x48.mat" in failure(folder)


def test_the_second_load_reads_the_cache_until_the_file_changes(
  folder, monkeypatch
):
  write(folder)
  first = tfd.load("test", str(folder))
  monkeypatch.setattr(io, "loadmat", None)
  again = tfd.load("test", str(folder))
  assert isinstance(again.images, np.memmap) and which(again) == which(first)
  monkeypatch.undo()
  monkeypatch.setenv("GANJAX_CACHE", str(folder / "cache"))
  write(folder, images=np.full((9, 48, 48), 77, np.uint8))
  assert which(tfd.load("test", str(folder))) == [77] * 3


def test_what_is_missing_says_whom_to_ask(folder):
  for message in (failure(folder), failure("")):
    assert "TFD_48x48.mat" in message and "Joshua Susskind" in message


@pytest.mark.parametrize(
  ("split", "options", "part"),
  [
    ("trian", {}, "did you mean 'train'"),
    ("train", dict(train_split="unlabelled"), "did you mean 'unlabeled'"),
    ("train", dict(fold=5), "fold is 5, it must be from 0 to 4"),
    ("train", dict(fold=-1), "fold is -1"),
    ("train", dict(size=32), "size is 32, it must be 48 or 96"),
    ("labeled", dict(fold=1), "no labeled images in fold 1"),
  ],
)
def test_mistakes_are_named(folder, split, options, part):
  write(folder)
  assert part in failure(folder, split, **options)


@pytest.mark.parametrize(
  ("changed", "part"),
  [
    (dict(folds=None), "holds no array 'folds' of numbers"),
    (dict(images=np.array([{"a": 1}, "b"], object)), "holds no array 'images'"),
    (dict(images=np.zeros((9, 48, 47), np.uint8)), "must be [9, 48, 48]"),
    (dict(images=np.zeros((9, 48, 48))), "float64, they must be uint8"),
    (dict(folds=np.zeros((9, 4))), "[9, 4], it must be [9, 5]"),
    (dict(labs_ex=np.ones(8)), "labs_ex"),
    (dict(labs_ex=np.full(9, 8)), "must be from 1 to 7"),
  ],
)
def test_another_file_is_refused(folder, changed, part):
  write(folder, **changed)
  assert part in failure(folder, "test")


def test_a_damaged_file_is_refused(folder):
  write(folder)
  file = folder / "TFD_48x48.mat"
  whole = file.read_bytes()
  for damaged in (b"", b"no matrix", whole[: len(whole) // 2]):
    file.write_bytes(damaged)
    assert "cannot be read" in failure(folder)
  file.write_bytes(whole)
  assert which(tfd.load(path=str(folder))) == [0, 4]


def test_the_experiment_has_the_two_stages_of_2014():
  first, second = (
    configs.resolve(configs.load(f"tfd_mlp{arg}")).to_dict()
    for arg in ("", ":stage2")
  )
  assert first["generator"]["front"] == () and not first["start_from"]
  assert second["generator"]["front"] == (8000, 100)
  assert second["start_from"] == "runs/tfd_mlp"
  second["generator"]["front"] = ()
  assert second["generator"] == first["generator"]
  assert first["num_steps"] * 22 == second["num_steps"] * 50
  for config in first, second:
    assert config["dataset"]["train_split"] == "unlabeled"
    rate = schedules.get_schedule(**config["d_opt"]["learning_rate"])
    np.testing.assert_allclose(rate(0), 0.05, rtol=1e-6)
    np.testing.assert_allclose(rate(173_287), 0.025, rtol=1e-5)
