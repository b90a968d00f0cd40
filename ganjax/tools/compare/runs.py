"""Runs as their files tell of them; no checkpoint is read, nothing compiled."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.runs import configs, history, monitor
from ganjax.runs import run as one_run

# What may differ within a setting. A longer run is another result.
FREE = (configs.RESUMABLE_KEYS - {"num_steps"}) | {"seed"}
# Of `evaluation.json`; what else stands there are other samples.
LAST, BEST, REAL = "last", "best", "held-out real"
NOISE = 1e-4  # Two scores of one state on one device may differ by so much.


@dataclasses.dataclass(frozen=True)
class Score:
  """A value of a run.

  Attributes:
    metric: that the value belongs to.
    last: of the last state.
    best: of all states that were scored, by the value itself.
    best_step: of that state.
  """

  metric: str
  last: float
  best: float
  best_step: int


@dataclasses.dataclass(frozen=True)
class Run:
  """What is known of a run without its checkpoints.

  Attributes:
    name: its folder, with as many parents as tell runs apart.
    workdir: where it is.
    config: flat, `section.key` -> text, without what is `FREE`.
    seed: of the run.
    rows: of `metrics.jsonl`.
    records: who -> metric -> record, of `evaluation.json`.
    environment: of `environment.json`; empty if it is not there.
    num_steps: what the run is to have in the end.
    steps: how far it is, as far as is logged.
    images: real images seen until then.
    seconds: of training until then, or None if no speed is logged. It comes
      from the speed of each row: compilation, samples, scores and checkpoints
      are not in it.
    state: "finished", "stopped", "diverged" or "unfinished".
    remark: the state in words.
  """

  name: str
  workdir: pathlib.Path
  config: dict[str, str]
  seed: int
  rows: list[dict[str, Any]]
  records: dict[str, dict[str, metrics.Record]]
  environment: dict[str, Any]
  num_steps: int
  steps: int
  images: int
  seconds: float | None
  state: str
  remark: str

  @property
  def protocols(self) -> dict[str, Mapping[str, Any]]:
    """Metric -> protocol of the last state's record."""
    last = self.records.get(LAST, {})
    return {name: record.protocol for name, record in last.items()}

  def scores(self) -> dict[str, Score]:
    """Returns value -> score, of values that have a direction.

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
        best = min(scored, key=lambda pair: (sign * pair[0], pair[1]))
        result[value] = Score(metric, last, *best)
    return result

  def _final(self) -> dict[str, metrics.Record]:
    """Returns the records of the state that the run ended with."""
    last = self.records.get(LAST, {})
    over = self.state != "unfinished"
    return {
      name: record
      for name, record in last.items()
      if over and record.protocol.get("step") == self.steps
    }

  def _scored(
    self, metric: str, value: str, step: int
  ) -> list[tuple[float, int]]:
    """Returns (score, step) of states before, where they may be compared.

    Rows do not say their protocol. It is that of the record if the row of the
    same step has the same numbers.
    """
    numbers = self.records[LAST][metric].values
    same = any(
      row["step"] == step
      and all(_is_near(row.get(k), number) for k, number in numbers.items())
      for row in self.rows
    )
    pairs = [
      (row[value], row["step"])
      for row in self.rows
      if same and isinstance(row.get(value), float)
    ]
    pairs = [pair for pair in pairs if math.isfinite(pair[0])]
    kept = self.records.get(BEST, {}).get(metric)
    mine = self.protocols[metric]
    number = kept.values.get(value, math.nan) if kept else math.nan
    if kept and math.isfinite(number) and kept.protocol.keys() == mine.keys():
      if all(kept.protocol[k] == mine[k] for k in mine if k != "step"):
        pairs.append((number, int(str(kept.protocol["step"]))))
    return pairs


def read(paths: Sequence[pathlib.Path]) -> tuple[list[Run], list[str]]:
  """Returns the runs at and below `paths`, and what to say of the others.

  Raises:
    UserError: a path does not exist, holds no run, or is a run that cannot be
      read. One that was only found below a path is left out.
  """
  found: dict[pathlib.Path, bool] = {}
  for path in paths:
    named = (path / "config.json").is_file()
    for workdir in [path] if named else _below(path):
      workdir = workdir.resolve()
      found[workdir] = named or found.get(workdir, False)
  names = _names(found)
  result, notes = [], []
  for workdir, named in found.items():
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
  depth, names = 1, [path.name for path in workdirs]
  while len(set(names)) < len(names):
    depth += 1
    names = ["/".join(path.parts[-depth:]) for path in workdirs]
  # A name that is no text would stop what is written as UTF-8.
  names = [name.encode(errors="replace").decode() for name in names]
  return dict(zip(workdirs, names, strict=True))


def _read(workdir: pathlib.Path, name: str, notes: list[str]) -> Run:
  config, shape, num_classes = one_run.read_config(workdir, any_version=True)
  rows = history.read_history(workdir)
  records = _records(workdir / "evaluation.json", name, notes)
  step = max((row["step"] for row in rows), default=0)
  for record in records.get(LAST, {}).values():
    step = max(step, int(str(record.protocol.get("step", 0))))
  batches = configs.build(config, shape, num_classes).batches_per_step
  images = batches * config.batch_size
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
    images=step * images,
    seconds=_seconds(rows, images),
    state=state,
    remark=remark,
  )


def _is_near(value: Any, number: float) -> bool:
  """Returns whether a row's value is a record's, but for a device's noise."""
  found = value if isinstance(value, float) else math.nan
  return math.isclose(found, number, rel_tol=NOISE)


def _state(config, rows, step: int) -> tuple[str, str]:
  """Returns how a run stands, in one word and in a few."""
  said = [row["diagnosis"] for row in rows if row.get("diagnosis") is not None]
  last = str(said[-1]) if said else ""
  if last in ("diverged", "not finite"):
    return "diverged", f"{last} at step {step:,} of {config.num_steps:,}"
  if step >= config.num_steps:
    return "finished", "finished" + f", {last}" * bool(last)
  where = f"step {step:,} of {config.num_steps:,}"
  if last and last in monitor.names_of(config.stop_when):
    return "stopped", f"stopped at {where}: {last}"
  return "unfinished", f"unfinished: {where}"


def _seconds(rows, images_per_step: int) -> float | None:
  """Returns the time of training, from the speed of each row."""
  total, before = 0.0, 0
  for row in rows:
    speed = row.get("images_per_sec")
    if isinstance(speed, float) and 0 < speed < math.inf:
      total += (row["step"] - before) * images_per_step / speed
      before = row["step"]
  return total if before else None


def _records(path: pathlib.Path, name: str, notes: list[str]):
  """Returns who -> metric -> record; says what cannot be read."""
  try:
    known = metrics.names()
    return {
      who: {
        k: metrics.Record.from_dict(v) for k, v in records.items() if k in known
      }
      for who, records in _json(path, strict=True).items()
    }
  except Exception as error:  # No text, no JSON, or other JSON.
    text = " ".join(str(error).split())
    notes.append(f"{name}: its evaluation.json is damaged ({text})")
    return {}


def _json(path: pathlib.Path, strict: bool = False) -> dict[str, Any]:
  """Returns the object in a file, `{}` without one."""
  try:
    found = json.loads(path.read_text()) if path.is_file() else {}
  except (ValueError, RecursionError):
    if strict:
      raise
    found = {}
  return found if isinstance(found, dict) or strict else {}


def _flat(tree: Any, path: str = "") -> Iterable[tuple[str, str]]:
  """Yields `section.key` and the text of its value, but for what is free."""
  if not isinstance(tree, dict):
    yield path, str(tree)
    return
  for key in sorted(tree):
    if path or key not in FREE:
      yield from _flat(tree[key], f"{path}.{key}" if path else key)
