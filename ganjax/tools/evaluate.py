"""Scores samples: `ganjax evaluate WORKDIR`.

Functions import what they need, so that `--help` need not wait for JAX.
"""

import argparse
import ast
import json
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganjax import errors

if TYPE_CHECKING:
  from ganjax.evaluation import table
  from ganjax.evaluation.evaluator import Evaluator
  from ganjax.runs.scoring import SampleSource

# A metric or an extractor and its settings, as a config has them.
Spec = dict[str, Any]

STANDARD = "frechet,kernel,prdc"
EXAMPLES = """
examples:
  ganjax evaluate runs/cifar_dcgan --num 50000
  ganjax evaluate runs/cifar_dcgan --metrics frechet,prdc:k=3
  ganjax evaluate samples.npz --against cifar10:train
  ganjax evaluate IMAGE_FOLDER --against cifar10:test \\
      --extractor inception:weights=inception.npz:resize=clean
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Scores samples of a run, images of a folder, or the array of an .npz, "
    "each score with its protocol."
  )
  parser.epilog = EXAMPLES
  add = parser.add_argument
  add("target", type=pathlib.Path, metavar="WORKDIR|FOLDER|FILE")
  add(
    "--against",
    default="",
    help="NAME[:SPLIT] of a dataset, the run's train, test or validation, or "
    "published statistics, an .npz of mu and sigma (the run's train)",
  )
  add(
    "--metrics",
    default="",
    help="NAME[:KEY=VALUE], separated by commas (the run's, else "
    "frechet,kernel,prdc)",
  )
  add(
    "--num",
    type=int,
    default=0,
    help="of samples (all; of a run, as many as its held-out images)",
  )
  add(
    "--step",
    default="",
    help="best, last or a number (the last, and the best where it is kept)",
  )
  add("--weights", choices=("ema", "raw"), default="ema", help="(ema)")
  add(
    "--stats",
    choices=("running", "batch", "standing"),
    default="",
    help="of batch norm (the config's)",
  )
  add("--truncation", type=float, default=0.0, help="largest |z| (no bound)")
  add(
    "--extractor",
    default="",
    help="classifier, inception or dinov2, with settings (the run's, else "
    "classifier)",
  )
  add(
    "--than",
    type=pathlib.Path,
    help="a result of this command to stand beside; refused if its protocol "
    "differs",
  )
  add("--out", type=pathlib.Path, help="JSON (WORKDIR/evaluation.json)")


def run(args: argparse.Namespace) -> None:
  """Scores what the command line names, prints a table, writes JSON.

  Raises:
    UserError: something on the command line, in a file or in the samples is
      wrong.
    OSError: a file cannot be read or written.
  """
  from ganjax.data import cache
  from ganjax.evaluation import published
  from ganjax.runs import scoring

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
  specs = _specs(args, is_run)
  evaluator.prepare(specs)
  folder = args.target if is_run else cache.root()
  start = time.perf_counter()
  rows: dict[str, table.Records] = {
    who: scoring.score(evaluator, source, specs, folder)
    for who, source in found.items()
  }
  # Published statistics have no images, so neither held-out ones nor noise
  # can be scored beside the samples.
  if not (args.than or isinstance(evaluator, published.Published)):
    rows.update(scoring.anchors(evaluator, specs, folder))
  if args.than:
    rows.update(_other(args.than, rows))
  _show(rows, evaluator, seconds=time.perf_counter() - start)
  out = args.out or (args.target / "evaluation.json" if is_run else None)
  if out:
    _write(out, rows)


def _of_run(
  args: argparse.Namespace, extractor: Spec | None
) -> "tuple[Evaluator, dict[str, SampleSource]]":
  """Returns the evaluator of a workdir, and the sources to score."""
  from ganjax.evaluation import evaluator as evaluators
  from ganjax.runs import run as runs
  from ganjax.runs import scoring

  config = runs.read_config(args.target)[0]
  if args.step:
    steps = [args.step]
  elif config.checkpoint.best:
    steps = ["last", "best"]
  else:
    steps = ["last"]
  if args.against in ("", *evaluators.SPLITS):
    evaluator = scoring.evaluator_of(
      config, extractor=extractor, against=args.against or "train"
    )
  else:
    evaluator = _of_dataset(args.against, extractor)
  sources = {}
  for step in steps:
    source = scoring.of_run(
      runs.load(args.target, _step(step)),
      ema=args.weights == "ema",
      truncation=args.truncation,
      statistics=args.stats,
    )
    sources["chosen" if step.isdigit() else step] = source
  return evaluator, sources


def _of_samples(
  args: argparse.Namespace, extractor: Spec | None
) -> "tuple[Evaluator, dict[str, SampleSource]]":
  """Returns the evaluator of a dataset, and the samples to score."""
  from ganjax.runs import scoring

  for flag in ("step", "stats"):
    if getattr(args, flag):
      raise errors.UserError(f"--{flag} is for a workdir, not {args.target}")
  if not args.against:
    raise errors.UserError(
      f"{args.target} is no workdir: say what its images are compared with, "
      "such as --against cifar10:train"
    )
  evaluator = _of_dataset(args.against, extractor)
  source = scoring.of_path(args.target, evaluator.real.images)
  return evaluator, {args.target.name: source}


def _of_dataset(text: str, extractor: Spec | None) -> "Evaluator":
  """Returns the evaluator against "NAME[:SPLIT]", or against an .npz."""
  from ganjax import data
  from ganjax.evaluation import evaluator as evaluators
  from ganjax.evaluation import published
  from ganjax.runs import scoring

  if text.endswith(".npz"):
    return published.Published(pathlib.Path(text), extractor)
  spec, split = scoring.dataset(text)
  name = spec.pop("name")
  load = data.find(name)
  train = load("train", **spec)
  test = load("test", **spec)
  # An evaluator knows three splits by name: any other is its "validation".
  is_known = split in ("train", "test")
  return evaluators.Evaluator(
    spec.get("builder", name),
    train,
    test,
    validation=None if is_known else load(split, **spec),
    extractor=extractor,
    against=split if is_known else "validation",
  )


def _specs(args: argparse.Namespace, is_run: bool) -> dict[str, Spec]:
  """Returns the metrics to compute: those asked for, else the run's own."""
  from ganjax.runs import run as runs

  if is_run and not args.metrics:
    evals = runs.read_config(args.target)[0].evals.to_dict()
    if evals:
      num = {"num_samples": args.num} if args.num else {}
      return {name: {**spec, **num} for name, spec in evals.items()}
  return specs_of(args.metrics or STANDARD, args.num)


def _step(text: str) -> Any:
  """Returns what `load` takes: "best", a number, or None for the last."""
  if text in ("best", "last"):
    return text if text == "best" else None
  if not text.isdigit():
    raise errors.UserError(f"--step {text} must be best, last or a number")
  return int(text)


def _show(
  rows: "Mapping[str, table.Records]", evaluator: "Evaluator", seconds: float
) -> None:
  """Prints the table, and what took how long."""
  from ganjax.evaluation import table

  table.show(rows, evaluator)
  parts = {k: round(s, 1) for k, s in evaluator.seconds.items() if s >= 0.05}
  if parts:
    text = ", ".join(f"{k} {s} s" for k, s in parts.items())
    print(f"{seconds:.1f} s: {text}")
  else:
    print("from earlier evaluations with the same protocol")


def _write(out: pathlib.Path, rows: "Mapping[str, table.Records]") -> None:
  from ganjax.evaluation import table

  out.parent.mkdir(parents=True, exist_ok=True)
  table.write(out, rows)
  print(out)


def _other(
  path: pathlib.Path, rows: "Mapping[str, table.Records]"
) -> "Mapping[str, table.Records]":
  """Returns the rows of another result, if their protocols are the same."""
  from ganjax.evaluation import metrics, protocols

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


def specs_of(text: str, num_samples: int) -> dict[str, Spec]:
  """Returns the metrics of "frechet,prdc:k=3", each checked.

  Raises:
    UserError: an unknown metric or hyper-parameter, or one out of range.
  """
  from ganjax.evaluation import metrics
  from ganjax.runs.configs import schema

  found = {}
  for part in text.split(","):
    name, hyper = named(part)
    known = schema.of(metrics.find(name), metrics.GIVEN)
    checked = schema.resolve(f"--metrics {name}", hyper, known)
    found[name] = {**checked, "num_samples": num_samples}
  return found


def named(text: str) -> tuple[str, dict[str, Any]]:
  """Returns the name and the settings of "NAME[:KEY=VALUE[:...]]".

  NAME is one of ganjax's own or `module:attribute`. Of a module, what stands
  behind the first colon belongs to NAME if it has no "=".
  """
  from ganjax.evaluation import extractors, metrics

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
