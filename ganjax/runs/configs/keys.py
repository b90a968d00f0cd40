"""The keys that every config has, whatever it trains, with their defaults.

The sections beside them (`system`, `dataset`, `generator`, ...) depend on what
they name: see `sections`.
"""

import dataclasses
from typing import Annotated

from ganjax.ranges import (
  AT_LEAST_0,
  AtLeast0,
  Choice,
  Count,
  CountFrom0,
  Decay,
  Probability,
  Range,
  Seed,
)
from ganjax.runs.configs import schema

# Classes are numbered from 0.
Classes = Annotated[tuple[int, ...], AT_LEAST_0]
# Each update of D is compiled: a billion of them would fill the memory.
Updates = Annotated[int, Range("from 1 to 1000", lambda x: 1 <= x <= 1000)]


@dataclasses.dataclass(frozen=True)
class Average:
  """The averaged generator, from which samples are drawn.

  Attributes:
    decay: of the average at each step; 0 for no average.
    half_life: the real images after which a state counts half, in place of
      `decay`; 0 for none.
  """

  decay: Decay = 0.0
  half_life: AtLeast0 = 0.0


@dataclasses.dataclass(frozen=True)
class Population:
  """Several runs in one program, see `training.population`.

  Attributes:
    seeds: how many, from the config's seed on; 0 for a single run.
    mapping: how their steps are taken together: "auto", "vmap" or "loop".
    sweep: "KEY=NUMBER,NUMBER,..." for each key with several values.
  """

  seeds: int = 0
  mapping: str = "auto"
  sweep: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stream:
  """How a dataset is read that does not fit into a device's memory.

  Attributes:
    mode: "auto", "always", "never", or "files" to decode files when needed.
    workers: processes that decode; 0 for none beside the run's own.
    share: of the device's memory that a dataset may fill before it is
      streamed.
  """

  mode: str = "auto"
  workers: CountFrom0 = 0
  share: Probability = 0.5


@dataclasses.dataclass(frozen=True)
class Samples:
  """The pictures that a run draws as it goes.

  Attributes:
    every: so many steps; 0 for at the end only.
    num: how many images.
  """

  every: CountFrom0 = 1000
  num: Count = 64


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What is saved of a run.

  Attributes:
    every: so many steps; 0 for at the end only.
    keep: how many of the newest.
    best: the score of `config.evals` whose best state is kept, too.
    retries: how often a failed save is tried again.
  """

  every: CountFrom0 = 1000
  keep: Count = 3
  best: str = ""
  retries: CountFrom0 = 0


@dataclasses.dataclass(frozen=True)
class Keys:
  """The keys of every config.

  Attributes:
    num_steps: updates of the generator.
    batch_size: images of one update on all devices together.
    seed: of the initialisation, the order of the data and all noise.
    d_steps_per_g_step: updates of D for each one of G.
    scaling: the range of pixels that networks see, of `data.scaling`.
    precision: of the networks' arithmetic in training.
    steps_per_dispatch: steps that one call of the device takes; 0 to let
      ganjax choose.
    log_every: steps from one row of `metrics.jsonl` to the next.
    stop_when: names of diagnoses at which the run ends, of `monitor`.
    start_from: the workdir of a run whose generator is continued.
    leave_out: classes that training does not see.
    on_nan: what happens when a number is not finite.
    imports: modules, by dotted name or by the path of a .py file, that
      register what the config names. `resolve` adds those that it finds out.
    ema: of the generator.
    population: of runs.
    stream: of the dataset.
    samples: of the run.
    checkpoint: of the run.
  """

  num_steps: Count = schema.REQUIRED
  batch_size: Count = schema.REQUIRED
  seed: Seed = 0
  d_steps_per_g_step: Updates = 1
  scaling: str = "symmetric"
  precision: Annotated[str, Choice(("float32", "bfloat16"))] = "float32"
  steps_per_dispatch: CountFrom0 = 0
  log_every: Count = 100
  stop_when: str = ""
  start_from: str = ""
  leave_out: Classes = ()
  on_nan: Annotated[str, Choice(("raise", "rollback"))] = "raise"
  imports: tuple[str, ...] = ()
  ema: Average = Average()
  population: Population = Population()
  stream: Stream = Stream()
  samples: Samples = Samples()
  checkpoint: Checkpoint = Checkpoint()


_SECTIONS = {
  name: schema.of(type(argument.default))
  for name, argument in schema.arguments(Keys).items()
  if dataclasses.is_dataclass(argument.default)
}
SCHEMA: schema.Schema = {**schema.of(Keys), **_SECTIONS}
# The same as plain nested dicts of values.
DEFAULTS = schema.defaults(SCHEMA)

# What a resumed run may have otherwise: it changes what is recorded or how
# fast, never a state.
RESUMABLE_KEYS = frozenset(
  {
    "checkpoint",
    "evals",
    "extractor",
    "imports",
    "log_every",
    "num_steps",
    "on_nan",
    "samples",
    "steps_per_dispatch",
    "stop_when",
    "stream",
  }
)
