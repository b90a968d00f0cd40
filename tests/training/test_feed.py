"""Runs on streamed data are those on resident data, bit for bit."""

import jax
import numpy as np
import pytest
from PIL import Image
from trees import assert_same_run

from ganjax import data, errors
from ganjax.data import folder, sources
from ganjax.runs import configs
from ganjax.training import feed, train

ONE = jax.devices()[:1]


def config(mode, **changes):
  found = configs.load("digits_mlp:smoke")
  found.update(
    num_steps=6,
    log_every=2,
    batch_size=8,
    samples=dict(every=0, num=8),
    checkpoint=dict(every=3, keep=2, best=""),
    stream=dict(mode=mode, workers=0),
  )
  found.evals = {}
  found.update(changes)
  return found


def run(found, folder):
  return train.train(found, folder, ONE, report=False)


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
  return run(config("never"), tmp_path_factory.mktemp("resident"))


def test_a_streamed_run_is_the_resident_one(resident, tmp_path, capsys):
  assert_same_run(run(config("always"), tmp_path), resident)
  assert "streamed" in capsys.readouterr().out


def test_a_streamed_run_resumes_in_its_stream(resident, tmp_path):
  run(config("always", num_steps=3), tmp_path)
  assert_same_run(run(config("always"), tmp_path), resident)


def test_a_resident_run_may_go_on_streamed(resident, tmp_path):
  run(config("never", num_steps=3), tmp_path)
  assert_same_run(run(config("always"), tmp_path), resident)


def test_devices_share_a_streamed_batch():
  arrays = data.Arrays(np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1))
  devices = jax.devices()[:2]
  feeds = [
    feed.Feed(source, arrays, (3, 8), devices)
    for source in (None, sources.Rows(arrays))
  ]
  with feeds[0].open(0, 4) as chosen, feeds[1].open(0, 4) as read:
    for step in (4, 5):
      _, indices = chosen(step, 1)
      nothing, batch = read(step, 1)
      assert nothing is None and indices.shape == (2, 1, 3, 4)
      chosen_rows = feed.rows(arrays).images[indices]
      np.testing.assert_array_equal(chosen_rows, batch.images)
  whole = arrays.images[np.concatenate(indices, -1).ravel()]
  for one in feeds:
    np.testing.assert_array_equal(one.batch(0, 5).images, whole)


@pytest.mark.slow
def test_updates_apart_stream_too(tmp_path):
  several = dict(d_steps_per_g_step=2, num_steps=3)
  runs = [
    run(config(mode, **several), tmp_path / mode)
    for mode in ("never", "always")
  ]
  assert_same_run(*runs)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  place = tmp_path_factory.mktemp("pictures")
  rng = np.random.RandomState(0)
  for i in range(30):
    pixels = rng.randint(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(place / f"{i:02d}.png")
  return place


def of_folder(mode, path, **changes):
  dataset = dict(name="folder", path=str(path), size=8, channels=1)
  found = config(mode, num_steps=3, **changes)
  found.dataset = dataset
  return found


def test_files_are_decoded_when_they_are_wanted(pictures, tmp_path):
  prepared = run(of_folder("never", pictures), tmp_path / "a")
  decoded = run(of_folder("files", pictures), tmp_path / "b")
  assert_same_run(decoded, prepared)


def test_without_files_there_is_nothing_to_decode(pictures):
  found = configs.resolve(config("files"))
  with pytest.raises(errors.UserError, match="dataset 'digits', which has no"):
    feed.load(found, ONE)
  found = configs.resolve(of_folder("files", pictures, leave_out=(1,)))
  with pytest.raises(errors.UserError, match=r"config\.leave_out"):
    feed.load(found, ONE)
  with pytest.raises(errors.UserError, match="did you mean 'always'"):
    feed.load(configs.resolve(config("alway")), ONE)


@pytest.mark.parametrize("room, streams", [(3.0, False), (1.5, True)])
def test_what_takes_too_much_memory_is_streamed(monkeypatch, room, streams):
  found = configs.resolve(config("auto"))
  size = configs.load_data(found, "train").images.nbytes
  monkeypatch.setattr(feed, "_memory", lambda device: room * size)
  source, _ = feed.load(found, ONE)
  assert (source is not None) == streams  # Half of the memory may be taken.


def test_the_memory_of_this_machine_is_known():
  assert 2**28 < feed._memory(ONE[0]) < 2**50


def test_a_corrupt_file_has_its_place_taken(tmp_path, pictures):
  place = tmp_path / "pictures"
  place.mkdir()
  for path in pictures.iterdir():
    (place / path.name).write_bytes(path.read_bytes())
  names = [file.path for file in folder.source("train", str(place)).files]
  (place / names[3]).write_bytes(b"nothing")
  with pytest.warns(UserWarning, match=names[3]):
    found = run(of_folder("files", place), tmp_path / "run")
  assert found.step == 3


@pytest.mark.parametrize(
  ("mode", "size", "streamed"),
  [
    *(("auto", 50, False), ("auto", 51, True)),
    *(("always", 1, True), ("never", 99, False), ("files", 1, True)),
  ],
)
def test_what_is_too_large_is_streamed(mode, size, streamed):
  found = configs.resolve(configs.load("digits_dcgan:smoke"))
  found.stream.mode = mode
  found.stream.share = 0.5
  assert feed.is_streamed(found, size, 100) is streamed
