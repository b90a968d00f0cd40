"""How fast a training step is: `ganjax bench --config FILE`."""

import argparse
import contextlib
import json
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ganjax import errors, files
from ganjax.runs.configs import flags as config_flags

# `--config.batch_size=8` and the like go to `run` in `args.flags`.
TAKES_CONFIG_FLAGS = True
# What `--all` measures, each in both forms.
CONFIGS = "cifar_dcgan cifar_hinge_sn cifar_wgan_gp digits_dcgan mnist_mlp"
FORMS = {"fast": [], "plain": ["--plain"]}
ROUNDS = 2
PATIENCE = 5  # Seconds before a line says how far it is,
PLAIN_SECONDS = 10  # and between two where there is no terminal.
NUM_OPS = 15
NUM_STEPS = 20
# Of data that nobody has but the user: as the papers have them.
UNKNOWN_DATA = {
  "ffhq64_r3gan": ["--image-shape=64,64,3", "--num-images=70000"],
  "tfd_mlp": ["--image-shape=48,48,1", "--num-images=102236"],
}
# A flag -> why others are not to stand beside it, and which.
ALONE = {
  "all": ("has its own experiments", "config plain profile pipeline loop"),
  "pipeline": ("makes no step", "plain profile loop"),
  "loop": ("trains as it is", "config plain profile image-shape num-classes"),
  "target": ("runs nothing", "plain profile pipeline loop steps"),
}
# A flag -> the flag that it is for.
ONLY_WITH = {
  "scan": "target",
  "hlo": "target",
  "num-images": "target",
  "out": "target or --all",
}


def _shape(text: str) -> tuple[int, ...]:
  sizes = text.split(",")
  if not all(size.isdecimal() and int(size) for size in sizes):
    raise argparse.ArgumentTypeError(f"{text!r} must be like 32,32,3")
  return tuple(map(int, sizes))


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Measures a training step: time, memory, operations. The last line of the "
    "output is all of it as JSON. Needs no dataset and leaves nothing behind. "
    "--config.KEY=VALUE sets any key of the config."
  )
  add = parser.add_argument
  add("--config", metavar="FILE[:ARG]", help="an experiment, as for training")
  add("--steps", type=int, metavar="N", help="how many (20)")
  add("--plain", action="store_true", help="convolutions as they are written")
  add(
    "--pipeline",
    action="store_true",
    help="streams of its batches instead, from mapped rows and from PNG files",
  )
  add("--loop", metavar="FILE[:ARG]", help="one whose training is run whole")
  add("--profile", default="", metavar="DIR", help="writes a trace of 3 steps")
  add(
    "--image-shape",
    type=_shape,
    metavar="H,W,C",
    help="of random images, where the dataset is neither known nor there",
  )
  add(
    "--num-classes",
    type=int,
    default=0,
    metavar="N",
    help="of their labels (0: none)",
  )
  add(
    "--num-images",
    type=int,
    default=0,
    metavar="N",
    help="of the training set, for --target, where it is not known",
  )
  add(
    "--target",
    default="",
    metavar="CHIP[:SIZE]",
    help="compiles the step for an accelerator, of which none is needed, and "
    "tells what its compiler says: v5e, v5e:2x2, v5e:4x4, v6e, v4, v5p, or "
    "h100, h100:4, a100, l4, t4",
  )
  add(
    "--precision",
    choices=("float32", "bfloat16"),
    help="short for --config.precision",
  )
  add(
    "--scan",
    action="store_true",
    help="with --target: the steps that training dispatches at once, not one",
  )
  add("--hlo", metavar="FILE", help="with --target: the compiled text")
  add(
    "--all",
    action="store_true",
    help=f"{CONFIGS}, each fast and plain: writes speed.md and speed.json; "
    "with --target every experiment: writes accelerators.md and .json",
  )
  add(
    "--out",
    type=pathlib.Path,
    metavar="DIR",
    help="where --all writes (results); with --target, where the record of "
    "the step is added to accelerators.json and its page",
  )


def run(args: argparse.Namespace) -> None:
  """Measures what the command line asks for, and prints it.

  Raises:
    UserError: something on the command line is wrong, or a measurement
      failed.
    OSError: a file cannot be written.
  """
  if args.precision:
    args.flags = [f"--config.precision={args.precision}", *args.flags]
  if args.steps is not None and args.steps < 1:
    raise errors.UserError(f"--steps {args.steps} must be 1 or more")
  for name in ("num_images", "num_classes"):
    value = getattr(args, name)
    if value < 0:
      flag = name.replace("_", "-")
      raise errors.UserError(f"--{flag} {value} must be 0 or more")
  _check_alone(args)
  args.steps = args.steps or NUM_STEPS
  if args.all:
    args.out = args.out or pathlib.Path("results")
  if args.target and args.all:
    estimate_all(args, args.flags, args.command)
  elif args.target:
    estimate_one(args, args.flags)
  elif args.all:
    measure_all(args, args.flags, args.command)
  elif args.pipeline:
    measure_pipeline(args, args.flags)
  elif args.loop:
    measure_loop(args, args.flags)
  else:
    measure_one(args, args.flags)


def _check_alone(args: argparse.Namespace) -> None:
  """Raises a `UserError` if flags exclude each other."""
  given = {k.replace("_", "-") for k, v in vars(args).items() if v}
  for name, (why, others) in ALONE.items():
    wrong = ", --".join(sorted(given & {*others.split()}))
    if name in given and wrong:
      raise errors.UserError(f"--{name} {why}: leave out --{wrong}")
  for name, other in ONLY_WITH.items():
    if name in given and given.isdisjoint(other.split(" or --")):
      raise errors.UserError(f"--{name} is for --{other}: give both")


def measure_one(args: argparse.Namespace, flags: list[str]) -> None:
  """Measures one experiment in this process, and prints the result."""
  spec = args.config or config_flags.DEFAULT
  config, _ = config_flags.parse(["bench", f"--config={spec}", *flags])
  from ganjax.tools.bench import measure

  arrays = measure.load_arrays(config, args.image_shape, args.num_classes)
  with _progress(spec) as show:
    record, ops = measure.measure(
      config, arrays, args.steps, args.plain, args.profile, show
    )
  record = dict(config=spec, overrides=flags) | record
  _print_table(record)
  if args.profile:
    _print_ops(ops, args.profile)
  print(json.dumps(record), flush=True)


def estimate_one(args: argparse.Namespace, flags: list[str]) -> None:
  """Compiles one experiment for accelerators; prints what the compiler says."""
  spec = args.config or config_flags.DEFAULT
  config, _ = config_flags.parse(["bench", f"--config={spec}", *flags])
  from ganjax.tools.bench import (
    accelerators,
    estimate,
    measure,
    report,
    targets,
  )

  targets.on_cpu()
  target = targets.find(args.target)
  # What can go wrong with files goes wrong before an hour of compiling.
  if args.out:
    accelerators.read(args.out)
  if args.hlo:
    _check_text_file(pathlib.Path(args.hlo))
  arrays = estimate.abstract_arrays(
    config, args.image_shape, args.num_classes, args.num_images
  )
  with _waiting(f"{spec}: compiling for {args.target}"):
    record, texts = estimate.estimate(config, arrays, target, args.scan)
  named = dict(config=spec, overrides=flags, options=_options(args))
  known = args.num_images or arrays.images.shape[0] != measure.NUM_IMAGES
  assumed = 0 if known else measure.NUM_IMAGES
  record = named | record | dict(assumed=assumed)
  report.show(record)
  print(json.dumps(record), flush=True)
  for i, text in enumerate(texts if args.hlo else []):
    path = pathlib.Path(args.hlo)
    if i:  # A kind of step each, where parts of it are lazy.
      path = path.with_stem(f"{path.stem}-{i + 1}")
    path.write_text(text, encoding="utf-8")
  if args.out:
    accelerators.add(args.out, args.command, [record])


def _check_text_file(path: pathlib.Path) -> None:
  """Raises a `UserError` if a text cannot be written there."""
  if path.is_dir() or not path.parent.is_dir():
    raise errors.UserError(f"--hlo {path}: no file can be written there")


def _options(args: argparse.Namespace) -> list[str]:
  """Returns the flags beside those of the config that change a program."""
  shape = args.image_shape
  given = {
    "image-shape": ",".join(map(str, shape)) if shape else "",
    "num-classes": args.num_classes,
    "num-images": args.num_images,
  }
  found = [f"--{name}={value}" for name, value in given.items() if value]
  return [*found, "--scan"] if args.scan else found


def measure_pipeline(args: argparse.Namespace, flags: list[str]) -> None:
  """Measures the streams of one experiment's batches; prints the result."""
  spec = args.config or config_flags.DEFAULT
  config, _ = config_flags.parse(["bench", f"--config={spec}", *flags])
  from ganjax.tools.bench import measure, pipeline

  arrays = measure.load_arrays(config, args.image_shape, args.num_classes)
  record: dict[str, Any] = dict(config=spec, overrides=flags)
  record |= pipeline.run(config, arrays, args.steps)
  for row in record["rows"]:
    print(
      f"{row['source']:16} {row['workers']} workers  "
      f"{row['images_per_sec']:10,.0f} images/s, "
      f"the first batch after {row['open_s']:.1f} s"
    )
  print(json.dumps(record), flush=True)


def measure_loop(args: argparse.Namespace, flags: list[str]) -> None:
  """Measures the whole loop of one experiment; prints the result."""
  config, _ = config_flags.parse(["bench", f"--config={args.loop}", *flags])
  from ganjax.tools.bench import loop

  record: dict[str, Any] = dict(config=args.loop, overrides=flags)
  record |= loop.run(config, args.steps)
  print(*loop.lines(record), json.dumps(record), sep="\n", flush=True)


def measure_all(
  args: argparse.Namespace, flags: list[str], command: str
) -> None:
  """Measures all experiments of `CONFIGS` and writes the page.

  Each run is a process of its own, so that neither memory nor what is
  compiled is shared; the forms run in turn, so that both see a machine whose
  speed changes.

  Raises:
    UserError: a measurement failed.
  """
  from ganjax.tools.bench import page

  args.out.mkdir(parents=True, exist_ok=True)
  flags = [f"--steps={args.steps}", *flags]
  runs = []
  for name in CONFIGS.split():
    for form in [*FORMS] * ROUNDS:
      runs.append(_run(["--config", name, *FORMS[form], *flags]))
      ms = f"{page.number(runs[-1]['ms'])} ms"
      print(f"{name:16} {form:6} {ms}", flush=True)
  document = dict(command=command, runs=runs)
  files.write_json(args.out / "speed.json", document)
  page.write(args.out / "speed.md", document)
  print(f"{len(runs)} measurements: {args.out / 'speed.md'} and .json")


def estimate_all(
  args: argparse.Namespace, flags: list[str], command: str
) -> None:
  """Compiles every experiment for a target; writes what the compiler says.

  Each is compiled in a process of its own: one may take all memory, and the
  compiler of TPUs serves one at a time.
  """
  from ganjax.runs import configs
  from ganjax.tools.bench import accelerators, targets

  # Before the first of them: its compiler may be missing.
  targets.on_cpu()
  targets.find(args.target)
  accelerators.read(args.out)
  flags = [f"--target={args.target}", *flags]
  if args.scan:
    flags.append("--scan")
  path = args.out
  for name in configs.experiments():
    given = ["--config", name, *UNKNOWN_DATA.get(name, []), *flags]
    try:
      run = _run(given)
    except errors.UserError as error:
      why = f"{error}".replace(sys.executable, "python")
      run = dict(config=name, target=args.target, error=why)
    # At once: it takes an hour, and may be broken off.
    path = accelerators.add(args.out, command, [run])
    print(f"{name:24} {_outcome(run)}", flush=True)
  print(f"{path} and .json")


def _outcome(run: dict[str, Any]) -> str:
  """Returns what there is to say of a compilation in a few words."""
  if "error" in run:
    return run["error"]
  if not run["fits"]:
    return f"does not fit: {run['needed_bytes'] / 1e9:.1f} GB"
  if "cycles" in run:
    return f"{run['cycles']:12,} cycles"
  return f"{run['kernels']:6,} kernels"


def _run(flags: list[str]) -> dict[str, Any]:
  command = [sys.executable, "-m", "ganjax", "bench", *flags]
  done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
  if done.returncode:
    raise errors.UserError(f"this failed: {shlex.join(command)}")
  return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
  """Says on one line what is waited for, and for how long already."""
  from rich import console, progress

  out = console.Console(stderr=True, highlight=False)
  if not out.is_terminal:
    print(text, file=sys.stderr, flush=True)
    yield
    return
  columns = progress.SpinnerColumn(), progress.TextColumn("{task.description}")
  elapsed = progress.TimeElapsedColumn()
  with progress.Progress(*columns, elapsed, console=out, transient=True) as bar:
    bar.add_task(text, total=None)
    yield


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
  """Yields a function that says on one line how many steps are done."""
  from rich import console

  from ganjax.runs import progress

  out = console.Console(stderr=True, highlight=False)
  width = out.width - 1 if out.is_terminal else None
  end = "\r" if out.is_terminal else "\n"
  pause = 0.2 if out.is_terminal else PLAIN_SECONDS
  started = time.monotonic()
  first, shown = 0.0, 0.0

  def show(done: int, total: int) -> None:
    nonlocal first, shown
    now = time.monotonic()
    if done == 0:
      print(f"{name}: compiling", end=end, file=sys.stderr, flush=True)
      return
    first = first or now
    waited = now - started > PATIENCE and now - shown > pause
    if done == total or not waited:
      return
    shown = now
    left = (now - first) / (done - 1) * (total - done) if done > 1 else None
    text = progress.line(done, total, 0, left, {}, width)
    text = f"{text:<{width}}" if width else f"{name}: {text}"
    print(text, end=end, file=sys.stderr, flush=True)

  try:
    yield show
  finally:
    if width:
      print(f"{'':{width}}", end=end, file=sys.stderr, flush=True)


def _print_table(record: dict[str, Any]) -> None:
  from rich import box, console, table

  from ganjax.tools.bench.page import number

  low, high = map(number, record["ms_quartiles"])
  rows = {
    "experiment": f"{record['config']}, {record['form']}, "
    f"{record['precision']}, batch {record['batch_size']}, "
    f"{record['d_steps']} D to 1 G",
    "step": f"{number(record['ms'])} ms, the median of {record['steps']} "
    f"(quartiles {low} and {high}, least {number(record['ms_min'])})",
    "real images": f"{number(record['images_per_sec'])}/s",
    "work": f"{number(record['flops'] / 1e9)} GFLOP a step: "
    f"{number(record['gflops_per_s'])} GFLOP/s, "
    f"{100 * record['share']:.1f} % of a dense product's "
    f"{number(record['dense_gflops_per_s'])}",
    "compilation": f"{number(record['compile_s'])} s",
    "peak memory": f"{record['peak_bytes'] / 1e9:.2f} GB ({record['peak_of']})",
    "device": f"{record['devices']} {record['device']}, {record['cores']} "
    f"cores, jax {record['versions']['jax']}",
  }
  if record["open_loops"]:
    rows["work"] += "; a loop of unknown length is counted once"
  grid = table.Table(box=box.SIMPLE, show_header=False)
  for name, text in rows.items():
    grid.add_row(name, text)
  console.Console(highlight=False).print(grid)


def _print_ops(ops: dict[str, float], folder: str) -> None:
  from rich import box, console, table

  out = console.Console(highlight=False)
  if not ops:
    out.print(f"the trace in {folder} cannot be read here: see TensorBoard")
    return
  grid = table.Table("operation", "ms a step", "%", box=box.SIMPLE_HEAD)
  total = sum(ops.values())
  for name, ms in list(ops.items())[:NUM_OPS]:
    grid.add_row(name, f"{ms:.3g}", f"{100 * ms / total:.0f}")
  out.print(grid)
  rest = sum(list(ops.values())[NUM_OPS:])
  out.print(
    f"{len(ops)} operations, {rest:.3g} ms in those that are not shown; all "
    f"in {folder}, for TensorBoard or ui.perfetto.dev",
    soft_wrap=True,
  )
