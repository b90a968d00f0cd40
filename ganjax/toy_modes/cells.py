"""A cell of the table: a run, by its setting, its dataset and its seed.

Nothing here imports JAX before a worker has said how many cores it takes.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import traceback
from typing import Any, NamedTuple

PAIRING = dict(name="non_saturating", relativism="pairing")
R1, R2 = (dict([(name, dict(gamma=0.1))]) for name in ("r1", "r2"))
# What differs from the experiments, whose nets, optimizers and steps all
# settings share but those of Wasserstein. Five critic steps for one of G are
# part of that method, and so, without a penalty, are RMSProp and clipping
# (Arjovsky et al. 2017, algorithm 1); their rate of 5e-5 and limit of 0.01 are
# ten times larger here, where steps are few. The weight 0.1 of the gradient
# penalty is that of the authors' code for toy data (Gulrajani et al. 2017).
SETTINGS: list[dict[str, Any]] = [
  dict(title="minimax", loss=dict(name="minimax")),
  dict(title="non-saturating"),
  dict(
    title="non-saturating + mode seeking",
    penalties=dict(mode_seeking=dict(weight=0.1)),
  ),
  dict(title="non-saturating + R1", penalties=R1),
  dict(title="non-saturating + R1 + R2", penalties=R1 | R2),
  dict(title="least squares", loss=dict(name="least_squares")),
  dict(title="hinge", loss=dict(name="hinge")),
  dict(title="hinge + R1", loss=dict(name="hinge"), penalties=R1),
  dict(
    title="Wasserstein, clipped",
    loss=dict(name="wasserstein"),
    d_steps_per_g_step=5,
    g_opt=dict(name="rmsprop", learning_rate=5e-4),
    d_opt=dict(name="rmsprop", learning_rate=5e-4, clip_weights=0.1),
  ),
  dict(
    title="Wasserstein + GP",
    loss=dict(name="wasserstein"),
    d_steps_per_g_step=5,
    penalties=dict(gradient_penalty=dict(weight=0.1)),
  ),
  dict(title="pairing", loss=PAIRING),
  dict(title="pairing + R1", loss=PAIRING, penalties=R1),
  dict(title="pairing + R1 + R2", loss=PAIRING, penalties=R1 | R2),
  dict(title="average", loss=PAIRING | dict(relativism="average")),
]
SMOKE = ("non-saturating", "pairing + R1 + R2")
KINDS = ("ring", "grid")
DIVERGED = "diverged.json"


class Cell(NamedTuple):
  """A run.

  Attributes:
    kind: of the toy dataset.
    setting: one of `SETTINGS`.
    seed: of the run; the data are the same for all.
    steps: of the generator; 0 for those of the experiment.
    smoke: whether to start from the experiment's smoke form.
    folder: of all workdirs.
  """

  kind: str
  setting: dict[str, Any]
  seed: int
  steps: int
  smoke: bool
  folder: pathlib.Path

  @property
  def workdir(self) -> pathlib.Path:
    """Of the run."""
    title = re.sub(r"\W+", "_", self.setting["title"]).strip("_").lower()
    return self.folder / f"{self.kind}-{title}-{self.seed}"

  def config(self) -> Any:
    """Returns the resolved config, the one that `flags` make."""
    from ganjax import configs

    config = configs.load(f"toy_{self.kind}{':smoke' * self.smoke}")
    config = configs.resolve(config)
    changes = {k: v for k, v in self.setting.items() if k != "title"}
    with config.unlocked():
      config.update(changes | dict(seed=self.seed))
      config.num_steps = self.steps or config.num_steps
    named = {k: v for k, v in changes.items() if isinstance(v, dict)}
    names = {k: v["name"] for k, v in named.items() if "name" in v}
    return configs.resolve(config, names)

  def read(self) -> dict[str, Any] | None:
    """Returns what the run found, or None if it is not finished."""
    from ganjax import logs

    row = dict(dataset=self.kind, setting=self.setting["title"], seed=self.seed)
    config = read_json(self.workdir / "config.json").get("config", {})
    if config != json.loads(json.dumps(self.config().to_dict())):
      return None
    if note := read_json(self.workdir / DIVERGED).get("note"):
      return row | dict(state="diverged", note=note)
    scores = read_json(self.workdir / "evaluation.json")
    if not scores:
      return None
    record = scores["last"]["modes"]
    if record["protocol"]["step"] != config["num_steps"]:
      return None
    last = [r for r in logs.read_history(self.workdir) if "d_loss" in r][-1:]
    states = [r.get("diagnosis", "") for r in last]
    return row | dict(state="".join(states) or "none", **record["values"])


def flags(setting: dict[str, Any]) -> str:
  """Returns a setting's changes as flags of `ganjax.main`."""

  def leaves(path, tree):
    for key, value in tree.items():
      if isinstance(value, dict):
        yield from leaves(f"{path}.{key}", value)
      elif key != "title":
        yield f"{path}.{key}={value}"

  return shlex.join(leaves("--config", setting))


def train(cell: Cell) -> None:
  """Trains a cell; all that it has to say goes to `log.txt` of its workdir.

  Raises:
    UserError: the workdir cannot be used.
  """
  import jax
  from absl import logging

  from ganjax import errors
  from ganjax import train as training

  logging.set_verbosity(logging.ERROR)
  cell.workdir.mkdir(parents=True, exist_ok=True)
  mark = cell.workdir / DIVERGED
  mark.unlink(missing_ok=True)
  with (
    (cell.workdir / "log.txt").open("a", encoding="utf-8") as log,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),
  ):
    try:
      training.train(cell.config(), cell.workdir, jax.local_devices()[:1])
    except (FloatingPointError, errors.UserError) as error:
      # Samples may be the first that is not finite: the metric says so.
      loss = isinstance(error, FloatingPointError)
      if not loss and "not finite" not in str(error):
        raise
      mark.write_text(json.dumps(dict(note=str(error))))
    except Exception:
      traceback.print_exc()
      raise


def start() -> None:
  """Prepares a worker: one core, nothing on the terminal."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["OMP_NUM_THREADS"] = "1"
  one = " --xla_cpu_multi_thread_eigen=false"
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + one
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns what a file holds, or {} if it is missing or torn."""
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, ValueError):
    return {}
