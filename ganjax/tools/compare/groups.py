"""Settings: runs that differ in their seed alone, and which may be ranked."""

import dataclasses
import itertools
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from ganjax import errors
from ganjax.evaluation import metrics, protocols
from ganjax.tools.compare.runs import BEST, LAST, REAL, Protocol, Run

# The level of the test behind the claim that a setting is the best: see
# `mark`.
ALPHA = 0.05
SCORES = (LAST, BEST)
HEADLINE = "frechet"  # The value that settings are sorted by, if all have it.

# The search for names is over so many keys, of at most so many at a time: all
# triples of 40 keys are 9,880, which takes no time; of all keys it would.
MAX_KEYS = 40
MAX_TOGETHER = 3
MAX_TEXT = 40  # letters of a value in a name

# A flat config as `Run.config` has it.
Config: TypeAlias = Mapping[str, str]
# Name of the group, value, `LAST` or `BEST`.
Place: TypeAlias = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Stat:
  """A value over seeds.

  Attributes:
    numbers: one for each run that has the value.
    runs: how many runs there are.
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
    """The standard deviation of the sample (n - 1); None of a single seed.

    Seeds are a sample of all seeds that there might have been. It is no
    standard error: it says how far a single run lies from the mean, which is
    what a reader who trains one run asks for.
    """
    if len(self.numbers) < 2:
      return None
    return statistics.stdev(self.numbers)


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs of one setting, by seed; `name` says what is particular to it."""

  name: str
  runs: tuple[Run, ...]

  @property
  def config(self) -> Config:
    """The config that all runs of the group share."""
    return self.runs[0].config

  @property
  def protocols(self) -> dict[str, Protocol]:
    """Metric -> protocol of the first run that has it."""
    found: dict[str, Protocol] = {}
    for run in self.runs:
      for metric, protocol in run.protocols.items():
        found.setdefault(metric, protocol)
    return found


@dataclasses.dataclass(frozen=True)
class Ranking:
  """Settings whose scores may be compared.

  Attributes:
    groups: the best first, by the first value.
    values: names of the scores that any of the groups has; those that all of
      them have stand first.
    stats: (group's name, value, "last" or "best") -> over seeds.
    real: value -> what held-out real images score by the same protocols.
    reason: why these groups do not stand in the first ranking; "" for the
      first itself.
  """

  groups: tuple[Group, ...]
  values: tuple[str, ...]
  stats: Mapping[Place, Stat]
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
    return differences([group.config for group in self.groups])


def compare(runs: Sequence[Run], notes: Iterable[str] = ()) -> Comparison:
  """Groups runs into settings, and settings into rankings."""
  notes = list(notes)
  settings: dict[tuple[tuple[str, str], ...], list[Run]] = {}
  for run in runs:
    settings.setdefault(tuple(run.config.items()), []).append(run)
  names = names_of([same[0].config for same in settings.values()])

  groups: list[Group] = []
  num_of_name: dict[str, int] = {}
  for name, same in zip(names, settings.values(), strict=True):
    if len(settings) == 1:
      # There is nothing to tell a single setting from, so its folders name it.
      name = common_start([run.name for run in same])
    # Seeds that were scored by other protocols have no common mean: they
    # become groups of their own, numbered from the second on.
    parts = _partition(_one_a_seed(same, notes), strict=False)
    for members, reason in parts:
      num = num_of_name.get(name, 0) + 1
      num_of_name[name] = num
      unique = name if num == 1 else f"{name} ({num})"
      groups.append(Group(unique, tuple(members)))
      if reason:
        notes.append(f"{name}: not all its seeds have one mean: {reason}")

  rankings = tuple(
    _ranking(members, reason)
    for members, reason in _partition(groups, strict=True)
  )
  ordered = [group for ranking in rankings for group in ranking.groups]
  return Comparison(tuple(ordered), rankings, tuple(notes))


def _one_a_seed(same: Sequence[Run], notes: list[str]) -> list[Run]:
  """Returns the runs by seed; of two with one seed the one that is further."""
  kept: dict[int, Run] = {}
  for run in sorted(same, key=lambda run: -run.steps):
    first = kept.setdefault(run.seed, run)
    if first is not run:
      notes.append(
        f"left out: {run.name} has the config and seed {run.seed} of "
        f"{first.name}"
      )
  return [kept[seed] for seed in sorted(kept)]


# What may be compared.

Member = TypeVar("Member", Run, Group)


def _partition(
  items: Sequence[Member], strict: bool
) -> list[tuple[list[Member], str]]:
  """Splits runs or groups into parts within which scores may be compared.

  Args:
    items: each goes into the first part that it does not conflict with.
    strict: whether those without a common metric are kept apart, too.

  Returns:
    (members, why they are not in the first part) of each part.
  """
  parts: list[tuple[list[Member], str]] = []
  for item in items:
    first_reason = ""
    for members, _ in parts:
      reason = _conflict(item, members, strict)
      if not reason:
        members.append(item)
        break
      first_reason = first_reason or reason
    else:
      parts.append(([item], first_reason))
  return parts


def _conflict(item: Member, members: Sequence[Member], strict: bool) -> str:
  """Returns why `item` cannot be compared with `members`, or ""."""
  mine = item.protocols
  share_a_metric = False
  for member in members:
    others = member.protocols
    if not mine and not others:
      share_a_metric = True  # Runs without scores may stand together.
    for metric, protocol in mine.items():
      if metric not in others:
        continue
      share_a_metric = True
      try:
        protocols.check_same(metric, others[metric], protocol)
      except errors.UserError as error:
        return str(error)
  if share_a_metric or not strict:
    return ""
  return "they have no metric in common" if mine else "they have no scores"


# Rankings.

Key = TypeVar("Key")


def _ranking(groups: Sequence[Group], reason: str) -> Ranking:
  """Returns groups with their statistics, the best first."""
  stats = _stats(groups)
  values = list(dict.fromkeys(value for _, value, _ in stats))

  def order(value: str) -> tuple[int, bool]:
    # A value that all groups have comes first, and of those the headline.
    count = sum((group.name, value, LAST) in stats for group in groups)
    return -count, value != HEADLINE

  values.sort(key=order)
  for value, which in itertools.product(values, SCORES):
    rivals = {
      place: stat
      for place, stat in stats.items()
      if place[1:] == (value, which)
    }
    best = mark(rivals, metrics.better(value))
    if best is not None:
      stats[best] = dataclasses.replace(stats[best], marked=True)

  def rank(group: Group) -> tuple[int, float]:
    # Groups without the first value stand last, in the order they came.
    if not values or (group.name, values[0], LAST) not in stats:
      return 1, 0.0
    sign = 1 if metrics.better(values[0]) == "lower" else -1
    return 0, sign * stats[group.name, values[0], LAST].mean

  return Ranking(
    groups=tuple(sorted(groups, key=rank)),
    values=tuple(values),
    stats=stats,
    real=_real(groups, values),
    reason=reason,
  )


def _stats(groups: Sequence[Group]) -> dict[Place, Stat]:
  """Collects the scores of all runs over their seeds."""
  numbers: dict[Place, list[float]] = {}
  for group in groups:
    for run in group.runs:
      for value, score in run.scores().items():
        numbers.setdefault((group.name, value, LAST), []).append(score.last)
        numbers.setdefault((group.name, value, BEST), []).append(score.best)
  sizes = {group.name: len(group.runs) for group in groups}
  return {
    place: Stat(tuple(found), sizes[place[0]])
    for place, found in numbers.items()
  }


def mark(rivals: Mapping[Key, Stat], better: str) -> Key | None:
  """Returns the key of the best mean if seeds do not explain it, or None.

  The best is marked if Welch's t-test, two-sided, gives p < .05 against each
  of the others. All these tests must reject, so no correction for their number
  is due (an intersection-union test; Berger 1982). None is marked where a
  setting has one seed alone, since nothing is known of its spread; or where
  seeds of the best are missing, since those that are left may be the lucky
  ones.

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
    if key == best:
      continue
    if not (mine.spread or other.spread):
      return None  # Without any spread a difference has no unit.
    # Welch: t = (m1 - m2) / sqrt(s1^2 / n1 + s2^2 / n2), with the degrees of
    # freedom of Welch and Satterthwaite. Settings may differ in how much their
    # seeds scatter, so the two variances are not pooled as Student's test does.
    test = stats.ttest_ind_from_stats(
      mean1=mine.mean,
      std1=mine.spread,
      nobs1=len(mine.numbers),
      mean2=other.mean,
      std2=other.spread,
      nobs2=len(other.numbers),
      equal_var=False,
    )
    if not test.pvalue < ALPHA:  # NaN marks nothing, either.
      return None
  return best


def _real(groups: Sequence[Group], values: Sequence[str]) -> dict[str, float]:
  """Returns what held-out real images score, where protocols agree."""
  found: dict[str, float] = {}
  for run in (run for group in groups for run in group.runs):
    for metric, record in run.records.get(REAL, {}).items():
      if metric not in run.protocols:
        continue
      try:
        protocols.check_same(metric, run.protocols[metric], record.protocol)
      except errors.UserError:
        continue  # Scores of other numbers of images are no reference.
      for value in set(values) & record.values.keys():
        found.setdefault(value, record.values[value])
  return found


# Names of settings: the fewest keys of their configs that tell them apart.


def differences(configs: Sequence[Config]) -> dict[str, list[str | None]]:
  """Returns key -> its value in each config (None: absent), if they differ."""
  keys = {key for config in configs for key in config}
  rows = {key: [config.get(key) for config in configs] for key in sorted(keys)}
  return {key: row for key, row in rows.items() if len(set(row)) > 1}


def names_of(configs: Sequence[Config]) -> list[str]:
  """Returns what tells each config from the others, in the fewest keys."""
  differ = differences(configs)

  def cost(key: str) -> tuple[bool, bool, int, int, str]:
    # A key that all configs have says more, and a name more than a number.
    absent = None in differ[key]
    return absent, not key.endswith("name"), key.count("."), len(key), key

  def num_told_apart(chosen: Sequence[str]) -> int:
    return len({*zip(*(differ[key] for key in chosen), strict=True)})

  keys = sorted(differ, key=cost)
  # The first set of keys, by size and then by cost, that tells all apart.
  chosen: list[str] = []
  for size in range(1, min(MAX_TOGETHER, len(keys)) + 1):
    for some in itertools.combinations(keys[:MAX_KEYS], size):
      if num_told_apart(some) == len(configs):
        chosen = list(some)
        break
    if chosen:
      break
  # Where no such few do, the key that tells most apart is added step by step.
  while keys and num_told_apart(chosen) < len(configs):
    chosen.append(max(keys, key=lambda key: num_told_apart([*chosen, key])))
  return [
    _name(chosen, [differ[key][i] for key in chosen])
    for i in range(len(configs))
  ]


def _name(keys: Sequence[str], row: Sequence[str | None]) -> str:
  """Returns `section.key=value` of what is there, `section=` for a name."""
  texts = []
  for key, value in zip(keys, row, strict=True):
    if value is None:
      continue
    short = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    texts.append(key.removesuffix(".name") + "=" + (short or "''"))
  return ", ".join(texts or [f"no {key}" for key in keys])


def common_start(names: Sequence[str]) -> str:
  """Returns what the names of folders begin with, without a seed's mark."""
  start = os.path.commonprefix(list(names))
  if len(names) > 1:
    start = start.rstrip("_-. ")
  return start or names[0]
