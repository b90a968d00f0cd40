"""What the files of runs say; no checkpoint is read, nothing is compiled."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.runs import configs, history, monitor
from ganjax.runs import run as one_run

# Keys of the config that may differ within a setting: the seed, and what a
# resumed run may change. A longer run is another result, though.
NOT_COMPARED = (configs.RESUMABLE_KEYS - {"num_steps", "imports"}) | {"seed"}
# Who was scored, as `evaluation.json` calls them. Other names that stand there
# are of samples that somebody scored by hand.
LAST = "last"
BEST = "best"
REAL = "held-out real"
# Two scores of one state on one device may differ by so much, relatively.
NOISE = 1e-4

# A row of `metrics.jsonl`.
Row: TypeAlias = Mapping[str, Any]
# What has to agree before two scores of a metric may be compared.
Protocol: TypeAlias = Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Score:
  """A value of a run.

  Attributes:
    metric: the metric that the value belongs to.
    last: the value of the last state.
    best: the best value of all states that were scored.
    best_step: the step of that state.
  """

  metric: str
  last: float
  best: float
  best_step: int


@dataclasses.dataclass(frozen=True)
class Run:
  """What is known of a run without its checkpoints.

  Attributes:
    name: the run's folder, with as many parents as tell runs apart.
    workdir: the path of that folder.
    config: flat, `section.key` -> text, without the keys in `NOT_COMPARED`.
    seed: the run's seed.
    rows: the rows of `metrics.jsonl`.
    records: who -> metric -> record, from `evaluation.json`.
    environment: what `environment.json` holds; empty without that file.
    num_steps: how many steps the run is to make in all.
    steps: how many it has made, as far as is logged.
    images: how many real images it has seen until then.
    seconds: how long it has trained until then, or None if no speed is logged.
      The time comes from the speed of each row: compilation, samples, scores
      and checkpoints are not in it.
    state: "finished", "stopped", "diverged" or "unfinished".
    remark: the state in words.
  """

  name: str
  workdir: pathlib.Path
  config: dict[str, str]
  seed: int
  rows: Sequence[Row]
  records: dict[str, dict[str, metrics.Record]]
  environment: dict[str, Any]
  num_steps: int
  steps: int
  images: int
  seconds: float | None
  state: str
  remark: str

  @property
  def protocols(self) -> dict[str, Protocol]:
    """Metric -> protocol of the last state's record."""
    last = self.records.get(LAST, {})
    return {name: record.protocol for name, record in last.items()}

  def scores(self) -> dict[str, Score]:
    """Returns name of a value -> its score, of values that have a direction.

    Only a run that is over has scores, and only finite ones: an earlier state
    is no result.
    """
    result = {}
    for metric, record in self._final().items():
      for value in metrics.values_of(metric):
        last = record.values.get(value, math.nan)
        if not math.isfinite(last):
          continue
        step = int(str(record.protocol["step"]))
        scored = [*self._scored(metric, value, step), (last, step)]
        sign = 1 if metrics.better(value) == "lower" else -1
        # The earlier of two that are as good.
        best, best_step = min(scored, key=lambda at: (sign * at[0], at[1]))
        result[value] = Score(
          metric=metric, last=last, best=best, best_step=best_step
        )
    return result

  def _final(self) -> dict[str, metrics.Record]:
    """Returns the records of the state that the run ended with."""
    if self.state == "unfinished":
      return {}
    return {
      name: record
      for name, record in self.records.get(LAST, {}).items()
      if record.protocol.get("step") == self.steps
    }

  def _scored(
    self, metric: str, value: str, step: int
  ) -> list[tuple[float, int]]:
    """Returns (score, step) of earlier states that may be compared.

    Rows of the log do not say by what protocol they were scored. It is the
    protocol of the last record if the row of the same step has the same
    numbers: then this and all other rows are scores of the run itself.

    Args:
      metric: the metric that the value belongs to.
      value: the name of the value.
      step: the step of the last record.
    """
    numbers = self.records[LAST][metric].values
    is_of_run = any(
      row["step"] == step
      and all(_is_near(row.get(k), number) for k, number in numbers.items())
      for row in self.rows
    )
    pairs = []
    if is_of_run:
      pairs = [
        (row[value], row["step"])
        for row in self.rows
        if isinstance(row.get(value), float) and math.isfinite(row[value])
      ]
    return pairs + self._kept(metric, value)

  def _kept(self, metric: str, value: str) -> list[tuple[float, int]]:
    """Returns (score, step) of the kept best state, if it may be compared."""
    record = self.records.get(BEST, {}).get(metric)
    if record is None or not math.isfinite(record.values.get(value, math.nan)):
      return []
    mine = {k: v for k, v in self.protocols[metric].items() if k != "step"}
    others = {k: v for k, v in record.protocol.items() if k != "step"}
    if mine != others or "step" not in record.protocol:
      return []
    return [(record.values[value], int(str(record.protocol["step"])))]


def read(paths: Sequence[pathlib.Path]) -> tuple[list[Run], list[str]]:
  """Returns the runs at and below `paths`, and what to say of the others.

  Raises:
    UserError: a path does not exist, holds no run, or is a run that cannot be
      read. A damaged run that was only found below a path is left out.
  """
  # Workdir -> whether the user named it. By its real path, since one run may
  # be reached in two ways.
  is_named: dict[pathlib.Path, bool] = {}
  for path in paths:
    named = (path / "config.json").is_file()
    for workdir in [path] if named else _below(path):
      workdir = workdir.resolve()
      is_named[workdir] = named or is_named.get(workdir, False)
  names = _names(is_named)
  result = []
  notes = []
  for workdir, named in is_named.items():
    try:
      result.append(_read(workdir, names[workdir], notes))
    except errors.UserError as error:
      if named:
        raise
      notes.append(f"left out: {error}")
  if not result:
    raise errors.UserError(notes[0].removeprefix("left out: "))
  return result, notes


def _below(path: pathlib.Path) -> list[pathlib.Path]:
  """Returns the workdirs below a folder, in order."""
  if not path.is_dir():
    raise errors.UserError(f"{path}: there is no such folder")
  found = []
  for folder, below, files in os.walk(path):
    if "config.json" in files:
      found.append(pathlib.Path(folder))
      below.clear()  # A run holds no other.
    below.sort()
  if not found:
    raise errors.UserError(
      f"{path} holds no run: no folder in it has a config.json"
    )
  return found


def _names(workdirs: Iterable[pathlib.Path]) -> dict[pathlib.Path, str]:
  """Returns workdir -> as much of the end of its path as tells it apart."""
  workdirs = list(workdirs)
  depth = 1
  names = [path.name for path in workdirs]
  while len(set(names)) < len(names):
    depth += 1
    names = ["/".join(path.parts[-depth:]) for path in workdirs]
  # A name that is no text would stop what is written as UTF-8.
  names = [name.encode(errors="replace").decode() for name in names]
  return dict(zip(workdirs, names, strict=True))


def _read(workdir: pathlib.Path, name: str, notes: list[str]) -> Run:
  """Reads one run; what it lacks is added to `notes`."""
  config, shape, num_classes = one_run.read_config(workdir, any_version=True)
  rows = history.read_history(workdir)
  records = _records(workdir / "evaluation.json", name, notes)
  step = max((row["step"] for row in rows), default=0)
  for record in records.get(LAST, {}).values():
    step = max(step, int(str(record.protocol.get("step", 0))))
  # A step may take several real batches: k for D, another for a relativistic G.
  batches = configs.build(config, shape, num_classes).batches_per_step
  images_per_step = batches * config.batch_size
  state, remark = _state(config, rows, step)
  return Run(
    name=name,
    workdir=workdir,
    config=dict(_flat(config.to_dict())),
    seed=config.seed,
    rows=rows,
    records=records,
    environment=_json(workdir / "environment.json"),
    num_steps=config.num_steps,
    steps=step,
    images=step * images_per_step,
    seconds=_seconds(rows, images_per_step),
    state=state,
    remark=remark,
  )


def _is_near(value: Any, number: float) -> bool:
  """Returns whether a row's value equals a record's up to a device's noise."""
  return isinstance(value, float) and math.isclose(value, number, rel_tol=NOISE)


def _state(
  config: configs.Config, rows: Sequence[Row], step: int
) -> tuple[str, str]:
  """Returns how a run stands, in one word and in a few."""
  said = [row["diagnosis"] for row in rows if row.get("diagnosis") is not None]
  last = str(said[-1]) if said else ""
  if last in ("diverged", "not finite"):
    return "diverged", f"{last} at step {step:,} of {config.num_steps:,}"
  if step >= config.num_steps:
    return "finished", f"finished, {last}" if last else "finished"
  where = f"step {step:,} of {config.num_steps:,}"
  if last and last in monitor.names_of(config.stop_when):
    return "stopped", f"stopped at {where}: {last}"
  return "unfinished", f"unfinished: {where}"


def _seconds(rows: Sequence[Row], images_per_step: int) -> float | None:
  """Returns the time of training, from the speed of each row."""
  total = 0.0
  before = 0
  for row in rows:
    # The speed is the mean since the row before it that had one.
    speed = row.get("images_per_sec")
    if isinstance(speed, float) and 0 < speed < math.inf:
      total += (row["step"] - before) * images_per_step / speed
      before = row["step"]
  return total if before else None


def _records(
  path: pathlib.Path, name: str, notes: list[str]
) -> dict[str, dict[str, metrics.Record]]:
  """Returns who -> metric -> record; a damaged file is named in `notes`."""
  try:
    # Metrics of a newer version are left out.
    known = metrics.names()
    return {
      who: {
        metric: metrics.Record.from_dict(plain)
        for metric, plain in records.items()
        if metric in known
      }
      for who, records in _json(path, strict=True).items()
    }
  except Exception as error:  # No text, no JSON, or other JSON.
    text = " ".join(str(error).split())
    notes.append(f"{name}: its evaluation.json is damaged ({text})")
    return {}


def _json(path: pathlib.Path, strict: bool = False) -> dict[str, Any]:
  """Returns the object in a JSON file, `{}` without one.

  Args:
    path: of the file.
    strict: whether a damaged file is an error; else it counts as empty.
  """
  try:
    found = json.loads(path.read_text()) if path.is_file() else {}
  except (ValueError, RecursionError):
    if strict:
      raise
    found = {}
  return found if isinstance(found, dict) or strict else {}


def _flat(tree: Any, path: str = "") -> Iterable[tuple[str, str]]:
  """Yields `section.key` and the text of its value, of keys compared."""
  if not isinstance(tree, dict):
    yield path, str(tree)
    return
  for key in sorted(tree):
    if path or key not in NOT_COMPARED:
      yield from _flat(tree[key], f"{path}.{key}" if path else key)
