"""Streams: batches read while a step computes, of data too large to hold.

Which examples a batch has is not decided by grain but by `order`, in training
by `data.batch_indices`. So a stream visits what a run with all data on the
device visits, and the only state of a stream is its place, which follows from
the step of a checkpoint.
"""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from absl import flags

from ganjax import data, errors
from ganjax.data import sources

# `(start, count) -> int [count]`, which examples stand there in the stream.
Order: TypeAlias = Callable[[int, int], np.ndarray]

_ENDLESS = 2**60  # Batches; grain's numbers must end somewhere.


class _Read(NamedTuple):
  """What a worker made of a batch: `[n, ...]`, zeros where a record failed."""

  images: np.ndarray
  labels: np.ndarray
  failures: tuple[tuple[int, int, str], ...]  # (row, record, reason)


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Reads a process's share of the batch that has a number."""

  # All of them are those of `batches`.
  source: sources.Source
  order: Order
  start: int
  sizes: tuple[int, ...]
  part: tuple[int, int]

  def share(self, whole: np.ndarray) -> np.ndarray:
    """Returns this process's `[..., n / count]` of `whole` `[prod(sizes)]`."""
    index, count = self.part
    return np.split(whole.reshape(self.sizes), count, axis=-1)[index]

  def first(self, number: int) -> int:
    """Returns the place in the stream at which the batch begins."""
    return self.start + number * math.prod(self.sizes)

  def __call__(self, number: int) -> _Read:
    """Reads this process's share of the batch with a number."""
    try:
      whole = self.order(self.first(number), math.prod(self.sizes))
      return _read(self.source, self.share(whole).ravel())
    except Exception as error:
      _check_that_it_travels(error)
      raise


def _read(source: sources.Source, records: np.ndarray) -> _Read:
  """Reads the examples with some numbers `[n]`."""
  images = np.zeros((len(records), *source.image_shape), source.dtype)
  labels = np.zeros(len(records), np.int32)
  failures = []
  for row, record in enumerate(records.tolist()):
    try:
      images[row], label = source[record]
    except sources.Corrupt as error:
      failures.append((row, record, str(error)))
    else:
      labels[row] = label or 0
  return _Read(images, labels, tuple(failures))


def _check_that_it_travels(error: Exception) -> None:
  """Raises another one if `error` cannot leave a worker process.

  The worker's queue would drop it, and the parent would wait for ever.
  """
  if multiprocessing.parent_process() is None:
    return
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:  # Whatever the error's own class does here.
    raise RuntimeError(f"{type(error).__name__}: {error}") from None


@contextlib.contextmanager
def batches(
  source: sources.Source,
  order: Order,
  start: int,
  sizes: tuple[int, ...],
  *,
  part: tuple[int, int] = (0, 1),
  workers: int = 0,
  threads: int = 2,
  ahead: int = 4,
) -> Iterator[Iterator[data.Arrays]]:
  """Opens an endless stream of batches; leaving the block ends its workers.

  A corrupt record is replaced by the next one of the stream that can be read.
  Each is named in one warning; more than 1 in 100 (and more than 3) are an
  error. All this depends on nothing but the order, so any number of workers, or
  another start, gives the same batches. Any other exception of a source is
  raised where the batch is taken from the stream, and ends the stream.

  Memory holds up to `ahead + 2` batches; with workers about `ahead + 5` for
  each of them, some in shared memory (on Linux /dev/shm, small in a container).

  Args:
    source: the examples. Workers get it pickled.
    order: `(start, count) -> int [count]`, which examples stand there.
    start: how many examples were used before.
    sizes: of a batch, that of the whole over all processes last, as in
      `(batches_per_step, batch_size)`.
    part: `(index, count)`, which contiguous share of the last axis is read.
    workers: processes that read; 0 for threads of this one. They import the
      main module, so a script needs its `if __name__ == "__main__":`.
    threads: that read, of each process.
    ahead: how many batches each process reads ahead.

  Yields:
    An iterator of `Arrays`, images `[*sizes, ...]` and labels `[*sizes]` or
    None, where the last of `sizes` is divided by `count`.

  Raises:
    UserError: a number is out of range, or too many records are corrupt.
  """
  numbers = dict(workers=workers, threads=threads, ahead=ahead)
  for name, number in numbers.items():
    if number < (name != "workers"):
      raise errors.UserError(f"streaming: {name} is {number}, it is too small")
  if sizes[-1] % part[1]:
    raise errors.UserError(
      f"streaming: a batch of {sizes[-1]} cannot be divided among {part[1]} "
      "processes"
    )
  reader = _Reader(source, order, start, sizes, part)
  iterator = _ahead(reader, **numbers)
  arrays = _arrays(iterator, reader)
  try:
    yield arrays
  finally:
    arrays.close()
    iterator.close()


def _ahead(read: _Reader, workers: int, threads: int, ahead: int) -> Any:
  """Returns an iterator of `read(0), read(1), ...`, made before asked for."""
  import grain  # Only who streams waits for it.

  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
  numbers = grain.MapDataset.range(_ENDLESS)
  reads = numbers.map(read).to_iter_dataset(options)
  if workers:
    # With workers grain asks absl for a flag of its own, also where nobody
    # has parsed any: in a notebook.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    processes = grain.MultiprocessingOptions(num_workers=workers)
    reads = reads.mp_prefetch(processes, worker_init_fn=_start_worker)
  return iter(reads)


def _start_worker(index: int, count: int) -> None:
  """Leaves Ctrl-C to the parent, and ends this process if the parent died."""
  del index, count
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def follow():
    if parent is not None:
      parent.join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()


def _arrays(
  reads: Iterator[_Read], reader: _Reader
) -> Generator[data.Arrays, None, None]:
  """Yields what is read, corrupt records replaced.

  They are counted here and not in the workers, which know nothing of what
  other workers found: so the count is exact.
  """
  source = reader.source
  corrupt: dict[int, str] = {}  # Record -> reason.
  for number, read in enumerate(reads):
    for row, record, reason in read.failures:
      _note(corrupt, record, reason, len(source))
      places = reader.share(np.arange(math.prod(reader.sizes))).ravel()
      place = reader.first(number) + int(places[row])
      example = _next_good(reader, place, corrupt)
      read.images[row] = example.images[0]
      read.labels[row] = example.labels[0]
    shape = (*reader.sizes[:-1], reader.sizes[-1] // reader.part[1])
    # Copied: on CPU a device array may be the very memory that it is made of,
    # and would keep what workers share as long as it lives.
    images = np.array(read.images).reshape(*shape, *source.image_shape)
    labels = np.array(read.labels).reshape(shape)
    del read
    yield data.Arrays(
      images, labels if source.num_classes else None, source.num_classes
    )


def _next_good(reader: _Reader, place: int, corrupt: dict[int, str]) -> _Read:
  """Returns the first example after `place` that can be read.

  It is looked for along the stream, not in the source, which also has the
  classes that the stream leaves out.
  """
  source = reader.source
  # Any 2 N places in a row hold a whole epoch.
  for later in range(place + 1, place + 1 + 2 * len(source)):
    read = _read(source, reader.order(later, 1))
    if not read.failures:
      return read
    _note(corrupt, *read.failures[0][1:], len(source))
  raise _too_many(corrupt, len(source))


def _note(
  corrupt: dict[int, str], record: int, reason: str, num_records: int
) -> None:
  """Counts a corrupt record and names it, if it is new; or it is too many."""
  if record in corrupt:
    return
  corrupt[record] = reason
  if len(corrupt) > max(3, num_records // 100):
    raise _too_many(corrupt, num_records)
  warnings.warn(
    f"streaming: {reason}: the next example takes its place (corrupt so far: "
    f"{len(corrupt)} of {num_records})",
    stacklevel=2,
  )


def _too_many(corrupt: dict[int, str], num_records: int) -> errors.UserError:
  """Returns the error of a source with too many corrupt records."""
  first = next(iter(corrupt.values()))
  return errors.UserError(
    f"streaming: at least {len(corrupt)} of {num_records} records cannot be "
    f"read, the first: {first}: mend or remove them"
  )
