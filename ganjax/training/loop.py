"""One run from its first step to its last, and who moves it.

A run is a generator, `follow`: it asks for a step and is given what came of it.
So one run can be moved by itself (`drive`), and several of them can take their
steps together (`drive_all`), while each keeps its own logs, scores and
checkpoints. Only these two know of the generator's protocol.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from ganjax import data, errors, processes
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics
from ganjax.runs import checkpoint, configs
from ganjax.runs import run as runs
from ganjax.runs.monitor import Monitor
from ganjax.runs.sampler import Sampler
from ganjax.state import Averaged, NetState, State
from ganjax.systems import System
from ganjax.training import faults, program, signals
from ganjax.training.feed import Feed
from ganjax.training.recorder import Recorder


class Step(NamedTuple):
  """A step that a run asks for: the arguments of a `program.StepFunction`."""

  state: State | program.Member
  arrays: data.Arrays | None
  indices: Any
  key: jax.Array
  step: int


# `(state, metrics)` after a step.
Answer: TypeAlias = tuple[Any, program.Metrics]
# A run under way: it yields steps, is sent answers, and returns the `Run`.
Steps: TypeAlias = Generator[Step, Answer, runs.Run]

# What ends a run alone; the other members of a population go on.
ENDS_A_MEMBER = (FloatingPointError, errors.SaveError, signals.Interrupted)


@dataclasses.dataclass(frozen=True)
class TrainingParts:
  """What a run is made of; runs with other seeds share it.

  Attributes:
    system: of the config.
    like: the shapes and types of its state.
    sampler: of the system.
    prepare: `batch -> batch`, from what is stored to what networks see.
    init: `(key, arrays) -> state`, from what is stored.
    feed: where batches come from.
    evaluator: for `config.evals`, or None.
  """

  system: System
  like: State
  sampler: Sampler
  prepare: program.Prepare
  init: Callable[[jax.Array, data.Arrays], State]
  feed: Feed
  evaluator: evaluate.Evaluator | None = None


def drive(steps: Steps, step_fn: Callable[..., Answer]) -> runs.Run:
  """Moves a run to its end; returns it.

  Args:
    steps: the run, of `follow`.
    step_fn: makes the steps, as `program.make_step` returns it.

  Raises:
    What `follow` and `step_fn` raise.
  """
  with contextlib.closing(steps):
    found = _advance(steps, None)
    while isinstance(found, Step):
      found = _advance(steps, step_fn(*found))
    return found


def drive_all(
  members: Mapping[str, Steps],
  take: Callable[[Mapping[str, Step]], Mapping[str, Answer]],
) -> tuple[dict[str, runs.Run], dict[str, BaseException]]:
  """Moves several runs to their ends.

  Args:
    members: name -> run, of `follow`.
    take: makes at least one of the steps that are wanted by name, and returns
      name -> answer of those that it made.

  Returns:
    name -> the run at its end, and name -> what ended it before.
  """
  finished: dict[str, runs.Run] = {}
  failed: dict[str, BaseException] = {}
  wanted: dict[str, Step] = {}
  answers: Mapping[str, Answer | None] = dict.fromkeys(members)
  with contextlib.ExitStack() as stack:
    for steps in members.values():
      stack.enter_context(contextlib.closing(steps))
    while answers:
      for name, answer in answers.items():
        wanted.pop(name, None)
        try:
          found = _advance(members[name], answer)
        except ENDS_A_MEMBER as error:
          failed[name] = error
          continue
        if isinstance(found, Step):
          wanted[name] = found
        else:
          finished[name] = found
      answers = take(wanted) if wanted else {}
  return _in_order(members, finished), _in_order(members, failed)


def _advance(steps: Steps, answer: Answer | None) -> Step | runs.Run:
  """Returns the next step that a run asks for, or the run at its end.

  Args:
    steps: the run.
    answer: what came of the step before; None for the first one.
  """
  try:
    return next(steps) if answer is None else steps.send(answer)
  except StopIteration as end:
    return end.value


def _in_order(names: Mapping[str, Any], some: dict[str, Any]) -> dict[str, Any]:
  """Returns `some` in the order of `names`."""
  return {name: some[name] for name in names if name in some}


def follow(
  config: configs.Config,
  workdir: pathlib.Path,
  parts: TrainingParts,
  watch: signals.Watch,
  quiet: bool = False,
) -> Steps:
  """Follows a run from where `workdir` stopped to its end.

  Args:
    config: of the run, resolved.
    workdir: the run's folder.
    parts: of the config.
    watch: says when to stop.
    quiet: whether no progress is shown.

  Yields:
    Steps that are to be made.

  Raises:
    what `train.train` says.
  """
  with _checkpoints(config, workdir) as checkpoints:
    retries = processes.raise_on_all(faults.Retries, workdir)
    retries.steps = processes.agree(retries.steps)
    # Each turn goes on from the last checkpoint; a rollback makes another one.
    while True:
      run = _start(config, workdir, parts, checkpoints)
      history = processes.agree(run.history())
      monitor = Monitor(history, config.stop_when, until=run.step)
      if monitor.stop and processes.is_first():
        print(f"stopped at step {run.step} before: {monitor.diagnosis}")
      if monitor.stop or run.step >= config.num_steps:
        return run
      recorder = Recorder(
        run=run,
        batches_per_step=parts.system.batches_per_step,
        checkpoints=checkpoints,
        evaluator=parts.evaluator,
        monitor=monitor,
        watch=watch,
        quiet=quiet,
      )
      try:
        return (yield from _steps_of(run, parts.feed, recorder, retries))
      except faults.NotFinite as error:
        text = _dump(error, run, parts.feed, retries)
        if config.on_nan != "rollback":
          text += "lower the learning rates, or set config.on_nan='rollback'"
          raise FloatingPointError(text) from error
        # What is being saved counts, too, if it becomes whole.
        with contextlib.suppress(errors.SaveError):
          checkpoints.wait()
        last_good = max(checkpoints.steps(), default=0)
        retries.add(processes.agree(last_good), text)


def _checkpoints(
  config: configs.Config, workdir: pathlib.Path
) -> checkpoint.Checkpoints | checkpoint.NoCheckpoints:
  """Returns the run's checkpoints, which the first process alone has."""
  if not processes.is_first():
    return checkpoint.NoCheckpoints()
  best = config.checkpoint.best
  return checkpoint.Checkpoints(
    workdir / "checkpoints",
    keep=config.checkpoint.keep,
    best=best,
    better=metrics.better(best) or "lower",
  )


def _start(
  config: configs.Config,
  workdir: pathlib.Path,
  parts: TrainingParts,
  checkpoints: checkpoint.Checkpoints | checkpoint.NoCheckpoints,
) -> runs.Run:
  """Returns a run at its last checkpoint, or at its start without one."""
  step, state = processes.raise_on_all(checkpoints.resume, parts.like)
  step = processes.agree(step)
  if step == 0:
    state = fresh_state(config, parts)
    if config.start_from:
      state = _start_from(config.start_from, state)
  state = processes.from_first(state)
  return runs.Run(config, workdir, step, state, parts.sampler)


def fresh_state(config: configs.Config, parts: TrainingParts) -> State:
  """Returns the state of the config's seed before the first step."""
  key = jax.random.fold_in(jax.random.key(config.seed), faults.INITIALISATION)
  return parts.init(key, parts.feed.first_examples())


def _start_from(workdir: str, state: State) -> State:
  """Gives the generator those layers that another run's has, too.

  This is how the generator of TFD was trained in 2014, in two stages: the
  second put new layers in front of what the first had trained.

  Args:
    workdir: of the other run.
    state: fresh.

  Raises:
    UserError: there is no such run, one of both has no generator, or the other
      one's is no part of this one.
  """
  other = runs.load(workdir).state.nets.get("generator")
  generator = state.nets.get("generator")
  if other is None or generator is None:
    raise errors.UserError(
      f"config.start_from={workdir!r}: both runs need a generator"
    )
  fresh = generator.params
  params = jax.tree.map(jnp.copy, {**fresh, **other.params})
  if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, fresh):
    raise errors.UserError(
      f"config.start_from={workdir!r}: its generator is no part of this one"
    )
  return _with_generator(state, generator.replace(params=params))


def _with_generator(state: State, generator: NetState) -> State:
  """Returns the state with another generator, from which its average starts."""
  state = state.replace_nets(generator=generator)
  if "generator" not in state.ema:
    return state
  average = Averaged.create(generator)
  return state.replace(ema={**state.ema, "generator": average})


def _dump(
  error: faults.NotFinite, run: runs.Run, feed: Feed, retries: faults.Retries
) -> str:
  """Keeps what a bad step was made of; returns what to say of it."""
  step = error.step - 1
  seed = run.config.seed
  key = jax.random.fold_in(retries.key(seed, step), step)
  path = faults.dump(run.workdir, error, feed.batch(seed, step), key)
  return f"{error}; its batch and key are in {path}; "


def _steps_of(
  run: runs.Run, feed: Feed, recorder: Recorder, retries: faults.Retries
) -> Steps:
  """Asks for the steps from `run.step` on; returns the trained run."""
  config = run.config
  num_steps = config.num_steps
  step = run.step
  key = retries.key(config.seed, step)
  with recorder, feed.open(config.seed, step) as batches:
    if step == 0:
      recorder.snapshot(0, run.state)
    state = program.replicate(run.state, feed.devices)
    many = recorder.steps_per_dispatch(feed.devices)
    if feed.streams:  # It gives one step at a time.
      many = 1
    over = False
    while not over:
      # A resume may begin between two dispatches: single steps lead to where
      # the next one begins, so that what is due falls between them.
      fits = step % many == 0 and step + many <= num_steps
      count = many if fits else 1
      arrays, indices = batches(step, count)
      state, metrics = yield Step(state, arrays, indices, key, step)
      step += count
      over = recorder(step, state, metrics)
  state = jax.device_get(program.local(state))
  return dataclasses.replace(run, state=state, step=step)
