"""Eight seeds in one program against eight single runs, as a time ratio.

    python results/population.py --config toy_ring --steps 400

Seconds a step are the slope between a run of that many steps and one of twice
as many, so that starts and compilations cancel; a single run takes as many
steps as all members together. Rounds alternate between the mappings.
Evaluations and pictures are left out: they are the same work.
"""

import argparse
import json
import statistics
import tempfile
import time

import jax

from ganjax.runs import configs
from ganjax.training import population, train


def seconds(name: str, seeds: int, mapping: str, num_steps: int) -> float:
  """Returns how long a run takes; `seeds` of 0 is a single one."""
  config = configs.load(name)
  config.num_steps = num_steps
  config.evals, config.checkpoint.best = {}, ""
  config.samples.every = config.checkpoint.every = 0
  config.population = dict(seeds=seeds, mapping=mapping)
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    trained = population if seeds else train
    trained.train(config, folder, jax.devices()[:1], report=False)
    return time.perf_counter() - start


def main() -> None:
  """Prints a JSON record."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--config", default="toy_ring")
  parser.add_argument("--seeds", type=int, default=8)
  parser.add_argument("--steps", type=int, default=400)
  parser.add_argument("--rounds", type=int, default=3)
  given = parser.parse_args()
  ways = {"single": 0, "vmap": given.seeds, "loop": given.seeds}
  took = {way: [] for way in ways}
  for way, seeds in ways.items():  # Compiles, and is not counted.
    seconds(given.config, seeds, "vmap" if way == "single" else way, 5)
  for _ in range(given.rounds):
    for way, seeds in ways.items():
      mapping = "auto" if way == "single" else way
      steps = given.steps * (1 if seeds else given.seeds)
      short, long = (
        seconds(given.config, seeds, mapping, n * steps) for n in (1, 2)
      )
      took[way].append((long - short) / steps)
  ms = {way: 1e3 * statistics.median(times) for way, times in took.items()}
  ratios = {
    way: ms[way] / (given.seeds * ms["single"]) for way in ("vmap", "loop")
  }
  record = dict(
    config=given.config,
    seeds=given.seeds,
    ms_per_step=ms,
    ratio=ratios,
    all_ms={way: [1e3 * x for x in times] for way, times in took.items()},
    jax=jax.__version__,
    device=jax.devices()[0].device_kind,
  )
  print(json.dumps(record, indent=1))


if __name__ == "__main__":
  main()
