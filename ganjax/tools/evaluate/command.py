"""What `python -m ganjax.evaluate` does."""

import argparse
import ast
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import (
  extractors,
  metrics,
  protocols,
  published,
  table,
)
from ganjax.runs import run as runs
from ganjax.runs import scoring as sources
from ganjax.runs.configs import schema

STANDARD = "frechet,kernel,prdc"


def run(args: argparse.Namespace) -> None:
  """Scores what the command line names, prints a table, writes JSON.

  Raises:
    UserError: something on the command line, in a file or in the samples is
      wrong.
  """
  if args.num < 0:
    raise errors.UserError(f"--num is {args.num}, it must be 0 or more")
  is_run = (args.target / "config.json").is_file()
  extractor = None
  if args.extractor:
    name, hyper = named(args.extractor)
    extractor = {"name": name, **hyper}
  if is_run:
    evaluator, found = _of_run(args, extractor)
  else:
    evaluator, found = _of_samples(args, extractor)
  specs = _specs(args, evaluator, is_run)
  evaluator.prepare(specs)
  folder = args.target if is_run else cache.root()
  start = time.perf_counter()
  rows = {
    who: sources.score(evaluator, source, specs, folder)
    for who, source in found.items()
  }
  if not (args.than or isinstance(evaluator, published.Published)):
    rows |= sources.anchors(evaluator, specs, folder)
  _finish(args, evaluator, rows, time.perf_counter() - start, is_run)


def _of_run(args, extractor):
  """Returns the evaluator of a workdir, and the sources to score."""
  config = runs.read_config(args.target)[0]
  steps = [args.step] if args.step else ["last", "best"]
  if not args.step and not config.checkpoint.best:
    steps = ["last"]
  own = args.against in ("", *evaluate.SPLITS)
  if own:
    evaluator = sources.evaluator_of(
      config, extractor=extractor, against=args.against or "train"
    )
  else:
    evaluator = _of_dataset(args.against, extractor)
  how = dict(
    ema=args.weights == "ema",
    truncation=args.truncation,
    statistics=args.stats,
  )
  loaded = {step: runs.load(args.target, _step(step)) for step in steps}
  return evaluator, {
    "chosen" if step.isdigit() else step: sources.of_run(run, **how)
    for step, run in loaded.items()
  }


def _of_samples(args, extractor):
  """Returns the evaluator of a dataset, and the samples to score."""
  for flag in ("step", "stats"):
    if getattr(args, flag):
      raise errors.UserError(f"--{flag} is for a workdir, not {args.target}")
  if not args.against:
    raise errors.UserError(
      f"{args.target} is no workdir: say what its images are compared with, "
      "such as --against cifar10:train"
    )
  evaluator = _of_dataset(args.against, extractor)
  source = sources.of_path(args.target, evaluator.real.images)
  return evaluator, {args.target.name: source}


def _of_dataset(text: str, extractor) -> evaluate.Evaluator:
  if text.endswith(".npz"):
    return published.Published(pathlib.Path(text), extractor)
  spec, split = sources.dataset(text)
  name = spec.pop("name")
  load = data.find(name)
  splits = [load("train", **spec), load("test", **spec)]
  own = split in ("train", "test")
  extra = None if own else load(split, **spec)
  evaluator = evaluate.Evaluator(
    spec.get("builder", name),
    *splits,
    validation=extra,
    extractor=extractor,
    against=split if own else "validation",
  )
  return evaluator


def _specs(args, evaluator, is_run: bool) -> dict[str, dict[str, Any]]:
  if is_run and not args.metrics:
    evals = runs.read_config(args.target)[0].evals.to_dict()
    if evals:
      num = {"num_samples": args.num} if args.num else {}
      return {name: spec | num for name, spec in evals.items()}
  return specs_of(args.metrics or STANDARD, args.num)


def _step(text: str) -> Any:
  if text in ("best", "last"):
    return text if text == "best" else None
  if not text.isdigit():
    raise errors.UserError(f"--step {text} must be best, last or a number")
  return int(text)


def _finish(args, evaluator, rows, seconds: float, is_run: bool) -> None:
  """Prints the table and writes the JSON."""
  if args.than:
    rows = rows | _other(args.than, rows)
  table.show(rows, evaluator)
  parts = {k: round(s, 1) for k, s in evaluator.seconds.items() if s >= 0.05}
  if parts:
    text = ", ".join(f"{k} {s} s" for k, s in parts.items())
    print(f"{seconds:.1f} s: {text}")
  else:
    print("from earlier evaluations with the same protocol")
  out = args.out or (args.target / "evaluation.json" if is_run else None)
  if out:
    out.parent.mkdir(parents=True, exist_ok=True)
    table.write(out, rows)
    print(out)


def _other(path: pathlib.Path, rows: Mapping[str, table.Records]):
  """Returns the rows of another result, if their protocols are the same."""
  try:
    read = json.loads(path.read_text())
    others = {
      f"{who} of {path.name}": {
        name: metrics.Record.from_dict(record)
        for name, record in records.items()
      }
      for who, records in read.items()
    }
  except Exception as error:  # No text, no JSON, or other JSON.
    raise errors.UserError(f"{path} is no result: {error}") from error
  mine = next(iter(rows.values()))
  for records in others.values():
    for name, record in records.items():
      drawn = {"step", "samples"} & record.protocol.keys()
      if name in mine and drawn:
        protocols.check_same(name, mine[name].protocol, record.protocol)
  return others


def specs_of(text: str, num_samples: int) -> dict[str, dict[str, Any]]:
  """Returns the metrics of "frechet,prdc:k=3", each checked.

  Raises:
    UserError: an unknown metric or hyper-parameter, or one out of range.
  """
  found = {}
  for part in text.split(","):
    name, hyper = named(part)
    known = schema.of(metrics.find(name), metrics.GIVEN)
    hyper = schema.resolve(f"--metrics {name}", hyper, known)
    found[name] = hyper | {"num_samples": num_samples}
  return found


def named(text: str) -> tuple[str, dict[str, Any]]:
  """Returns the name and the settings of "NAME[:KEY=VALUE[:...]]".

  NAME is one of ganjax's own or `module:attribute`. Of a module, what stands
  behind the first colon belongs to NAME if it has no "=".
  """
  name, *settings = text.split(":")
  own = {*metrics.names(), *extractors.names()}
  if name not in own and settings and "=" not in settings[0]:
    name = f"{name}:{settings.pop(0)}"
  result: dict[str, Any] = {}
  for setting in settings:
    key, equals, value = setting.partition("=")
    if not equals:
      raise errors.UserError(f"{text}: write {name}:key=value, not {setting!r}")
    try:
      result[key] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      result[key] = value
  return name, result
