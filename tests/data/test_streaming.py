"""A stream gives what resident arrays give, and leaves nothing behind."""

import inspect
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import test_tfds
from PIL import Image
from verbs import Verb

from ganjax import data, errors
from ganjax.data import folder, sources, streaming, tfds
from ganjax.tools.bench import pipeline

bench = Verb("bench")


SEED = 3


def order_of(num_examples):
  return lambda start, count: data.batch_indices(
    SEED, start, count, num_examples
  )


def arrays_of(num_examples, num_classes=10):
  random = np.random.RandomState(0)
  images = random.randint(256, size=(num_examples, 4, 4, 3)).astype(np.uint8)
  labels = random.randint(10, size=num_examples).astype(np.int32)
  return data.Arrays(images, labels if num_classes else None, num_classes)


def take(source, start, sizes, count, **kwargs):
  """Returns `count` batches, stacked."""
  order = order_of(len(source))
  with streaming.batches(source, order, start, sizes, **kwargs) as stream:
    rows = [next(stream) for _ in range(count)]
  images = np.stack([row.images for row in rows])
  if rows[0].labels is None:
    return images, None
  return images, np.stack([row.labels for row in rows])


# The same examples.


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
  """Arrays of 50 examples in files, as the cache maps them."""
  place, arrays = tmp_path_factory.mktemp("mapped"), arrays_of(50)
  for name in ("images", "labels"):
    np.save(place / f"{name}.npy", getattr(arrays, name))
  opened = [
    np.load(place / f"{name}.npy", mmap_mode="r")
    for name in ("images", "labels")
  ]
  return data.Arrays(*opened, num_classes=10)


def test_a_stream_visits_what_a_resident_run_visits(mapped):
  # 16 at a time: batches cross the ends of three epochs of 50.
  images, labels = take(sources.Rows(mapped), 0, (2, 8), 10)
  expected = data.batch_indices(SEED, 0, 160, 50).reshape(10, 2, 8)
  np.testing.assert_array_equal(images, mapped.images[expected])
  np.testing.assert_array_equal(labels, mapped.labels[expected])
  assert images.dtype == np.uint8 and labels.dtype == np.int32


def test_it_goes_on_from_any_step(mapped):
  whole, _ = take(sources.Rows(mapped), 0, (2, 8), 10)
  tail, _ = take(sources.Rows(mapped), 6 * 16, (2, 8), 4)
  np.testing.assert_array_equal(tail, whole[6:])


def test_the_parts_of_two_processes_are_the_whole(mapped):
  whole = take(sources.Rows(mapped), 0, (2, 8), 5)
  parts = [
    take(sources.Rows(mapped), 0, (2, 8), 5, part=(i, 2)) for i in range(2)
  ]
  for one, *both in zip(whole, *parts, strict=True):
    assert both[0].shape[:3] == (5, 2, 4)
    np.testing.assert_array_equal(np.concatenate(both, axis=2), one)


def test_points_without_labels_are_streamed_too():
  points = np.random.RandomState(0).normal(size=(9, 2)).astype(np.float32)
  images, labels = take(sources.Rows(data.Arrays(points)), 0, (1, 4), 3)
  expected = data.batch_indices(SEED, 0, 12, 9).reshape(3, 1, 4)
  np.testing.assert_array_equal(images, points[expected])
  assert images.dtype == np.float32 and labels is None


def test_a_mapped_array_is_pickled_as_the_name_of_its_file(mapped):
  def travelled(arrays):
    return pickle.loads(pickle.dumps(sources.Rows(arrays))).arrays

  # The second is a part of a map, of which NumPy does not know the place.
  part = data.Arrays(mapped.images[7:], mapped.labels[7:], 10)
  for arrays, name in ((mapped, mapped.images.filename), (part, None)):
    after = travelled(arrays)
    np.testing.assert_array_equal(after.images, arrays.images)
    np.testing.assert_array_equal(after.labels, arrays.labels)
    assert getattr(after.images, "filename", None) == name


# Sources that decode when an example is wanted.


def write_folder(place, num_images):
  for i in range(num_images):
    path = place / f"{i % 3}" / f"{i:03}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (2, 2), (i % 256, i // 256, 7)).save(path)
  return dict(path=str(place), size=2, test_fraction=1e-9)


@pytest.mark.parametrize("module", [folder, tfds])
def test_a_source_takes_what_load_takes(module):
  load, source = map(inspect.signature, (module.load, module.source))
  assert load.parameters == source.parameters


def test_a_folder_is_read_as_load_reads_it(tmp_path):
  options = write_folder(tmp_path, 40)
  arrays, source = folder.load(**options), folder.source(**options)
  images, labels = take(source, 0, (1, 16), 5)
  expected = data.batch_indices(SEED, 0, 80, 40).reshape(5, 1, 16)
  np.testing.assert_array_equal(images, arrays.images[expected])
  np.testing.assert_array_equal(labels, arrays.labels[expected])
  assert (source.num_classes, source.image_shape) == (3, (2, 2, 3))


def test_array_records_are_read_as_load_reads_them(tmp_path):
  test_tfds.write_tfds(tmp_path)
  options = dict(builder="tiny", data_dir=str(tmp_path), size=4)
  arrays = tfds.load("train[:7]", **options)
  source = tfds.source("train", train_split="train[:7]", **options)
  source = pickle.loads(pickle.dumps(source))  # As a worker gets it.
  images, labels = take(source, 0, (4,), 5)
  expected = data.batch_indices(SEED, 0, 20, 7).reshape(5, 4)
  np.testing.assert_array_equal(images, arrays.images[expected])
  np.testing.assert_array_equal(labels, arrays.labels[expected])


def test_records_that_tfds_cannot_decode_are_corrupt():
  class Examples(list):
    def __getitem__(self, i):
      if i == 1:
        raise ValueError("not\na PNG")
      if i == 2:
        raise OSError(5, "Input/output error")
      return dict(image=np.full((4, 4, 1), i, np.uint8), label=3 - i)

  source = tfds.Records("tiny", Examples(range(5)), (4, 4, 1), 3, 0)
  image, label = source[3]
  assert image.max() == 3 and label == 0
  with pytest.raises(sources.Corrupt, match=r"^tiny, record 1 \(not a PNG\)$"):
    source[1]
  with pytest.raises(OSError, match="Input/output"):
    source[2]
  with pytest.raises(errors.UserError, match="labels of tiny are hidden"):
    source[4]


def test_a_format_without_numbers_cannot_be_streamed(tmp_path, monkeypatch):
  test_tfds.write_tfds(tmp_path)
  monkeypatch.setattr(tfds, "_examples", lambda *_: (iter(()), 10))
  with pytest.raises(errors.UserError, match="format that cannot be streamed"):
    tfds.source(builder="tiny", data_dir=str(tmp_path))


# Corrupt records.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
  """300 images of which three are corrupt, two side by side in the stream."""
  place = tmp_path_factory.mktemp("damaged")
  options = write_folder(place, 300)
  intact = folder.source(**options)
  bad = data.batch_indices(SEED, 0, 100, 300)[[20, 21, 70]]
  pixels = np.stack([intact[i][0] for i in range(300)])
  for i in bad:
    (place / intact.files[i].path).write_bytes(b"no image")
  return folder.source(**options), pixels, bad, place


def test_a_corrupt_record_is_replaced_by_the_next_of_the_stream(damaged):
  source, pixels, bad, place = damaged
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    images, labels = take(source, 0, (3, 10), 21)  # Two epochs.
  stream = data.batch_indices(SEED, 0, 700, 300).tolist()
  seen = [
    next(i for i in stream[place:] if i not in bad) for place in range(630)
  ]
  np.testing.assert_array_equal(images.reshape(630, 2, 2, 3), pixels[seen])
  names = [int(file.label) for file in source.files]
  assert labels.ravel().tolist() == [names[i] for i in seen]
  # Each is named once, though each is met twice.
  texts = [str(warning.message) for warning in caught]
  assert len(texts) == 3
  for count, (text, i) in enumerate(zip(texts, bad, strict=True), 1):
    assert f"{place / source.files[i].path} (cannot identify" in text
    assert f"corrupt so far: {count} of 300" in text


@pytest.mark.filterwarnings("ignore:streaming")
def test_replacements_depend_neither_on_the_part_nor_on_the_start(damaged):
  source = damaged[0]
  whole, _ = take(source, 5, (1, 10), 9)  # The corrupt ones in its right half.
  half, _ = take(source, 5, (1, 10), 9, part=(1, 2))
  tail, _ = take(source, 5 + 21, (1, 10), 5)
  np.testing.assert_array_equal(half, whole[:, :, 5:])
  stream = whole.reshape(90, 12)
  np.testing.assert_array_equal(tail.reshape(50, 12), stream[21:71])


@pytest.mark.filterwarnings("ignore:streaming")
def test_too_many_corrupt_records_are_an_error(damaged, tmp_path):
  source, _, _, place = damaged
  shutil.copytree(place, tmp_path, dirs_exist_ok=True)
  stream = data.batch_indices(SEED, 0, 300, 300)
  (tmp_path / source.files[stream[95]].path).write_bytes(b"")
  worse = folder.source(path=str(tmp_path), size=2, test_fraction=1e-9)
  assert len(take(worse, 0, (10,), 9)[0]) == 9
  with pytest.raises(errors.UserError, match="at least 4 of 300.*the first: "):
    take(worse, 0, (10,), 10)


@pytest.mark.filterwarnings("ignore:streaming")
def test_nothing_but_corrupt_records_are_an_error(tmp_path):
  options = write_folder(tmp_path, 2)
  for path in tmp_path.rglob("*.png"):
    path.write_bytes(b"")
  message = "at least 2 of 2 records cannot be read"
  with pytest.raises(errors.UserError, match=message):
    take(folder.source(**options), 0, (4,), 1)


# Threads and processes.


class Numbered:
  """Example i is the pixel i; one number raises."""

  image_shape, dtype, num_classes = (1,), np.dtype(np.uint8), 0

  def __init__(self, error=None, at=-1):
    self.error, self.at, self.reads = error, at, 0

  def __len__(self):
    return 200

  def __getitem__(self, i):
    self.reads += 1
    if i == self.at:
      raise self.error
    return np.array([i]), None


def wait_until(condition, seconds=10):
  end = time.monotonic() + seconds
  while not condition() and time.monotonic() < end:
    time.sleep(0.02)
  return condition()


def reading_threads():
  return [t for t in threading.enumerate() if "grain-prefetch" in t.name]


def test_it_reads_ahead_but_not_far(monkeypatch):
  source, held, ahead = Numbered(), [], streaming._ahead

  def hold(*args, **kwargs):
    held.append(ahead(*args, **kwargs))
    return held[-1]

  # Held, lest the garbage collector does what leaving the block should.
  monkeypatch.setattr(streaming, "_ahead", hold)
  order = order_of(200)
  with streaming.batches(source, order, 0, (10,), threads=2, ahead=3) as stream:
    next(stream)
    assert wait_until(lambda: source.reads == 40)
    time.sleep(0.1)
    assert source.reads == 40 and reading_threads()
  assert wait_until(lambda: not reading_threads())


def test_what_a_source_raises_comes_out_of_its_batch():
  at = data.batch_indices(SEED, 25, 1, 200)[0]
  source = Numbered(FileNotFoundError(2, "gone", "a.png"), at)
  with streaming.batches(source, order_of(200), 0, (10,)) as stream:
    assert [next(stream).images.shape for _ in range(2)] == [(10, 1)] * 2
    with pytest.raises(FileNotFoundError, match="a.png"):
      next(stream)
    with pytest.raises(StopIteration):
      next(stream)


def test_a_file_that_vanished_is_not_taken_for_a_corrupt_one(tmp_path):
  source = folder.source(**write_folder(tmp_path, 5))
  (tmp_path / source.files[2].path).unlink()
  with pytest.raises(FileNotFoundError):
    take(source, 0, (5,), 1)


@pytest.mark.filterwarnings("ignore:streaming")
def test_processes_give_what_threads_give(damaged):
  source = damaged[0]
  expected = take(source, 5, (3, 10), 8)
  with streaming.batches(
    source, order_of(300), 5, (3, 10), workers=2
  ) as stream:
    rows = [next(stream) for _ in range(8)]
    assert len(multiprocessing.active_children()) == 2
  assert not multiprocessing.active_children()
  # None of them lies in memory that is shared with workers.
  assert all(row.images.base.flags.owndata for row in rows)
  np.testing.assert_array_equal([row.images for row in rows], expected[0])
  np.testing.assert_array_equal([row.labels for row in rows], expected[1])


class Stubborn(Exception):
  """Cannot be pickled and read again: it wants two arguments."""

  def __init__(self, one, two):
    super().__init__(f"{one} and {two}")


def test_what_is_raised_in_a_process_comes_out_too():
  at = data.batch_indices(SEED, 15, 1, 200)[0]
  source = Numbered(FileNotFoundError(2, "gone", "a.png"), at)
  with streaming.batches(source, order_of(200), 0, (10,), workers=1) as stream:
    next(stream)
    with pytest.raises(FileNotFoundError, match="a.png"):
      next(stream)
  assert not multiprocessing.active_children()


def test_what_cannot_leave_a_process_is_told_in_words(monkeypatch):
  monkeypatch.setattr(multiprocessing, "parent_process", lambda: "somebody")
  source = Numbered(Stubborn("this", "that"), 0)
  with pytest.raises(RuntimeError, match="^Stubborn: this and that"):
    take(source, 0, (200,), 1)


SCRIPT = """
import multiprocessing
import signal
import numpy as np
from ganjax import data
from ganjax.data import sources, streaming

# Of a process in the background it may be ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
arrays = data.Arrays(np.zeros((10, 2, 2, 1), np.uint8))
order = lambda start, count: np.arange(start, start + count) % 10
source = sources.Rows(arrays)
with streaming.batches(source, order, 0, (5,), workers=2) as stream:
  next(stream), next(stream)
  print(*(x.pid for x in multiprocessing.active_children()), flush=True)
  while True:
    next(stream)
"""


def running(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  with open(f"/proc/{pid}/stat") as file:  # A zombie has ended, too.
    return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(how):
  process = subprocess.Popen(
    [sys.executable, "-c", SCRIPT],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  try:
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2 and all(map(running, workers))
    if how == signal.SIGINT:
      os.killpg(process.pid, how)  # As a terminal does: to all of them.
    else:
      process.kill()
    _, text = process.communicate(timeout=60)
  finally:
    process.kill()
  assert wait_until(lambda: not any(map(running, workers)))
  if how == signal.SIGINT:
    assert text.count("Traceback") == 1 and "KeyboardInterrupt" in text


# Mistakes.


@pytest.mark.parametrize(
  ("kwargs", "text"),
  [
    (dict(ahead=0), "ahead is 0"),
    (dict(threads=0), "threads is 0"),
    (dict(workers=-1), "workers is -1"),
    (dict(part=(0, 3)), "batch of 8 cannot be divided among 3 processes"),
  ],
)
def test_mistakes(kwargs, text):
  with pytest.raises(errors.UserError, match=text):
    take(sources.Rows(arrays_of(9)), 0, (2, 8), 1, **kwargs)


# Its speed.


def test_the_bench_measures_both_sources(monkeypatch, capsys):
  monkeypatch.setattr(pipeline, "WORKERS", (0,))
  flags = ["--pipeline", "--config", "digits_mlp:smoke", "--steps", "3"]
  assert bench.main(flags) == 0
  *_, last = capsys.readouterr().out.splitlines()
  rows = json.loads(last)["rows"]
  names = [row["source"] for row in rows]
  assert names == ["mapped rows", f"{pipeline.NUM_FILES:,} PNG files"]
  assert all(row["images_per_sec"] > 0 < row["open_s"] for row in rows)
  for more, text in (("--plain", "no step"), ("--all", "leave out")):
    assert bench.main([*flags, more]) == 2
    assert text in capsys.readouterr().err
  assert bench.main(["--pipeline", "--config", "toy_ring:smoke"]) == 2
  assert "needs a dataset of images" in capsys.readouterr().err
