"""Settings: runs that differ in their seed alone, and which may be ranked."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ganjax import errors
from ganjax.evaluation import metrics, protocols
from ganjax.tools.compare import names
from ganjax.tools.compare.runs import BEST, LAST, REAL, Run

# The error of the claim that a setting is the best: see `mark`.
ALPHA = 0.05
SCORES = (LAST, BEST)
HEADLINE = "frechet"  # The value that settings are sorted by, if all have it.


@dataclasses.dataclass(frozen=True)
class Stat:
  """A value over seeds.

  Attributes:
    numbers: one for each run that has it.
    runs: how many there are.
    marked: whether it is better than all others by more than seeds explain.
  """

  numbers: tuple[float, ...]
  runs: int
  marked: bool = False

  @property
  def mean(self) -> float:
    """The mean over seeds."""
    return statistics.fmean(self.numbers)

  @property
  def spread(self) -> float | None:
    """The standard deviation of the sample (n - 1); None of a single seed."""
    many = len(self.numbers) > 1
    return statistics.stdev(self.numbers) if many else None


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one setting, by seed; `name` says what is particular to it."""

  name: str
  runs: tuple[Run, ...]

  @property
  def config(self) -> dict[str, str]:
    """What all runs of it have in common."""
    return self.runs[0].config


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Settings whose scores may be compared.

  Attributes:
    groups: the best first, by the first value.
    values: that any of them has, those of all of them first.
    stats: (group's name, value, "last" or "best") -> over seeds.
    real: value -> what held-out real images score by the same protocols.
    reason: why they do not stand among those before; "" for the first.
  """

  groups: tuple[Group, ...]
  values: tuple[str, ...]
  stats: Mapping[tuple[str, str, str], Stat]
  real: Mapping[str, float]
  reason: str


@dataclasses.dataclass(frozen=True)
class Comparison:
  """All runs: settings, rankings, and what to say of runs left out."""

  groups: tuple[Group, ...]
  rankings: tuple[Ranking, ...]
  notes: tuple[str, ...]

  @property
  def runs(self) -> list[Run]:
    """All runs, setting by setting."""
    return [run for group in self.groups for run in group.runs]

  @property
  def differences(self) -> dict[str, list[str | None]]:
    """Key of the config -> its value in each setting, where they differ."""
    return names.differences([group.config for group in self.groups])


def compare(runs: Sequence[Run], notes: Iterable[str] = ()) -> Comparison:
  """Groups runs into settings, and settings into rankings."""
  notes = list(notes)
  settings: dict[Any, list[Run]] = {}
  for run in runs:
    settings.setdefault(tuple(run.config.items()), []).append(run)
  titles = names.of_settings([same[0].config for same in settings.values()])
  groups, taken = [], {}
  for name, same in zip(titles, settings.values(), strict=True):
    if len(settings) == 1:
      name = names.common([run.name for run in same])
    parts = _partition(_one_a_seed(same, notes), strict=False)
    for part, reason in parts:
      taken[name] = taken.get(name, 0) + 1
      suffix = f" ({taken[name]})" * (taken[name] > 1)
      groups.append(Group(name + suffix, tuple(part)))
      if reason:
        notes.append(f"{name}: not all its seeds have one mean: {reason}")
  rankings = tuple(_ranking(*part) for part in _partition(groups, strict=True))
  order = [group for ranking in rankings for group in ranking.groups]
  return Comparison(tuple(order), rankings, tuple(notes))


def _one_a_seed(same: list[Run], notes: list[str]) -> list[Run]:
  """Returns the runs by seed; of two of one seed that which is further."""
  kept: dict[int, Run] = {}
  for run in sorted(same, key=lambda run: -run.steps):
    first = kept.setdefault(run.seed, run)
    if first is not run:
      notes.append(
        f"left out: {run.name} has the config and seed {run.seed} of "
        f"{first.name}"
      )
  return [kept[seed] for seed in sorted(kept)]


def _partition(items: Sequence[Any], strict: bool) -> list[tuple[list, str]]:
  """Returns (runs or groups that may be compared, why not with the first).

  Args:
    items: each comes to the first that it fits.
    strict: whether those without a common metric are kept apart, too.
  """
  parts: list[tuple[list, str]] = []
  for item in items:
    first = ""
    for members, _ in parts:
      reason = _conflict(item, members, strict)
      if not reason:
        members.append(item)
        break
      first = first or reason
    else:
      parts.append(([item], first))
  return parts


def _conflict(item: Any, members: Sequence[Any], strict: bool) -> str:
  """Returns why `item` cannot be compared with `members`, or ""."""
  mine, common = _protocols(item), False
  for member in members:
    others = _protocols(member)
    common |= not (mine or others)
    for metric in (name for name in mine if name in others):
      common = True
      try:
        protocols.check_same(metric, others[metric], mine[metric])
      except errors.UserError as error:
        return str(error)
  if common or not strict:
    return ""
  return "they have no metric in common" if mine else "they have no scores"


def _protocols(item: Any) -> dict[str, Mapping[str, Any]]:
  """Returns metric -> protocol of a run, or of a group's runs."""
  if isinstance(item, Run):
    return item.protocols
  return {k: v for run in reversed(item.runs) for k, v in run.protocols.items()}


def _ranking(groups: Sequence[Group], reason: str) -> Ranking:
  """Returns groups with their statistics, the best first."""
  numbers: dict[tuple[str, str, str], list[float]] = {}
  for group in groups:
    for run in group.runs:
      for value, score in run.scores().items():
        for which in SCORES:
          key = group.name, value, which
          numbers.setdefault(key, []).append(getattr(score, which))
  sizes = {group.name: len(group.runs) for group in groups}
  stats = {k: Stat(tuple(v), sizes[k[0]]) for k, v in numbers.items()}
  values = list(dict.fromkeys(value for _, value, _ in stats))

  def order(value: str):
    # What all of them have comes first, and of that the headline.
    have = sum((group.name, value, LAST) in stats for group in groups)
    return -have, value != HEADLINE

  values.sort(key=order)
  for value, which in itertools.product(values, SCORES):
    rivals = {k: s for k, s in stats.items() if k[1:] == (value, which)}
    if best := mark(rivals, metrics.better(value)):
      stats[best] = dataclasses.replace(stats[best], marked=True)

  def place(group: Group):
    if not values or (group.name, values[0], LAST) not in stats:
      return 1, 0.0
    sign = 1 if metrics.better(values[0]) == "lower" else -1
    return 0, sign * stats[group.name, values[0], LAST].mean

  ordered = tuple(sorted(groups, key=place))
  return Ranking(ordered, tuple(values), stats, _real(groups, values), reason)


def mark(rivals: Mapping[Any, Stat], better: str) -> Any:
  """Returns the key of the best mean if seeds do not explain it, or None.

  It is marked if Welch's t-test, two-sided, gives p < .05 against each of the
  others. All these tests must reject, so no correction for their number is due
  (an intersection-union test; Berger 1982). None is marked where a setting has
  one seed alone, since nothing is known of its spread; or where seeds of the
  best are missing, since those that are left may be the lucky ones.

  Args:
    rivals: key -> what it reached.
    better: "lower" or "higher".
  """
  from scipy import stats

  if len(rivals) < 2 or any(len(s.numbers) < 2 for s in rivals.values()):
    return None
  sign = 1 if better == "lower" else -1
  best = min(rivals, key=lambda key: sign * rivals[key].mean)
  mine = rivals[best]
  if len(mine.numbers) < mine.runs:
    return None
  for key, other in rivals.items():
    # Without any spread there is nothing to measure a difference by.
    if key != best and not (mine.spread or other.spread):
      return None
    if key != best:
      facts = [(s.mean, s.spread, len(s.numbers)) for s in (mine, other)]
      test = stats.ttest_ind_from_stats(*facts[0], *facts[1], equal_var=False)
      if not test.pvalue < ALPHA:
        return None
  return best


def _real(groups, values: Sequence[str]) -> dict[str, float]:
  """Returns what held-out real images score, where protocols agree."""
  found: dict[str, float] = {}
  for run in (run for group in groups for run in group.runs):
    for metric, record in run.records.get(REAL, {}).items():
      if metric not in run.protocols:
        continue
      try:
        protocols.check_same(metric, run.protocols[metric], record.protocol)
      except errors.UserError:
        continue
      for value in set(values) & record.values.keys():
        found.setdefault(value, record.values[value])
  return found
