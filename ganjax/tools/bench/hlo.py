"""What a compiled program says of itself: its operations, and what they take.

`jax.stages.Compiled.as_text` is the program as the compiler leaves it: fused,
scheduled, with a layout for every array. Computations stand one after another;
the last, ENTRY, is the program, and its loops name those that they repeat.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence

# A line that begins a computation, and one of its operations.
_BEGIN = re.compile(r"(ENTRY )?%?([\w.\-]+) .*-> .*\{$")
_FIRST = re.compile(r"^(?:ENTRY )?%", re.MULTILINE)
_OPERATION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"\b(pred|[subf]f?\d+(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLS = re.compile(r"(?:calls|to_apply|body|true_computation)=%?([\w.\-]+)")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ASKED_BY = re.compile(r'op_name="([^"]*)"')
_LINE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')
_FRAME = re.compile(r"stack_frame_id=(\d+)")

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "collective-permute",
  "all-to-all",
)
# These name memory, or wait for what another operation began: nothing runs.
FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast after-all "
  "partition-id replica-id opt-barrier add-dependency".split()
)
# These read of their first operand no more than they return.
ROWS_ALONE = frozenset(
  {"gather", "dynamic-slice", "dynamic-update-slice", "slice"}
)
# These run what stands in other computations.
CONTAINERS = frozenset({"while", "conditional", "call"})


@dataclasses.dataclass(frozen=True)
class Operation:
  """An operation of a compiled program.

  Attributes:
    name: in the program.
    opcode: what it does, e.g. "fusion" or "all-reduce".
    result: the type of what it returns, e.g. "f32[64,128]{1,0}".
    text: what stands behind the opcode: operands and attributes.
    times: how often the program runs it, as far as the compiler knows.
    moved_bytes: of its operands and of what it returns: what it has to read
      and to write, if it reads all.
  """

  name: str
  opcode: str
  result: str
  text: str
  times: float = 1
  moved_bytes: int = 0

  @functools.cached_property
  def cycles(self) -> int:
    """What the compiler estimates of one run, 0 where it does not."""
    found = _CYCLES.search(self.text)
    return int(found[1]) if found else 0

  @functools.cached_property
  def operands(self) -> tuple[str, ...]:
    """The names of its operands."""
    return tuple(_NAME.findall(_in_parentheses(self.text)))

  @functools.cached_property
  def result_bytes(self) -> int:
    """The bytes of what it returns."""
    return num_bytes(self.result)

  @property
  def asked_by(self) -> str:
    """The path of what asked for it, from JAX, or nothing."""
    found = _ASKED_BY.search(self.text)
    return found[1] if found else ""

  def attribute(self, name: str) -> str:
    """Returns the quoted value of an attribute, or nothing."""
    found = re.search(rf'\b{name}="([^"]*)"', self.text)
    return found[1] if found else ""

  def called(self) -> tuple[str, ...]:
    """Returns the names of the computations that it runs."""
    branches = _BRANCHES.search(self.text)
    if branches:
      return tuple(_NAME.findall(branches[1]))
    names = _CALLS.findall(self.text)
    other = re.search(r"false_computation=%?([\w.\-]+)", self.text)
    return (*names, other[1]) if other else tuple(names)


class Program:
  """A compiled program, read.

  Attributes:
    operations: all that run, those of loops and branches among them.
    computations: name -> its operations, of every computation.
    open_loops: loops whose number of turns is not known and counted as 1.
  """

  def __init__(self, text: str, branches: Sequence[float] = ()):
    """Reads what `Compiled.as_text` returned.

    Args:
      text: of the program.
      branches: how often each branch of a condition is taken, of those that
        have so many; all are as likely where that is not known.
    """
    self._branches = branches
    self.open_loops = 0
    self.computations: dict[str, list[Operation]] = {"": []}
    self._frames = _Frames(text)
    entry = ""
    name = ""
    for line in text.splitlines():
      begins = _BEGIN.match(line)
      if begins:
        name = begins[2]
        entry = name if begins[1] else entry
        self.computations[name] = []
      elif line == "}":
        name = ""
      elif name:
        found = _OPERATION.match(line)
        if found:
          self.computations[name].append(_operation(found[1], found[2]))
    self._entry = entry
    self.operations = list(self._running(entry, 1.0))

  def _running(self, computation: str, times: float) -> Iterator[Operation]:
    """Yields what runs in a computation, loops unrolled by their counts."""
    operations = self.computations[computation]
    sizes = {one.name: one.result_bytes for one in operations}
    for operation in operations:
      if operation.opcode not in CONTAINERS:
        rows_alone = self._gathered(operation)
        read = sum(
          sizes.get(name, 0)
          for place, name in enumerate(operation.operands)
          if place not in rows_alone
        )
        moved = operation.result_bytes + read
        yield dataclasses.replace(operation, times=times, moved_bytes=moved)
        continue
      inner = times
      if operation.opcode == "while":
        inner *= self._trips(operation)
      called = operation.called()
      shares = [1.0] * len(called)
      if operation.opcode == "conditional":
        shares = [1 / len(called)] * len(called)
        by_number = _BRANCHES.search(operation.text)
        if by_number and len(self._branches) == len(called):
          shares = [*self._branches]
      for name, share in zip(called, shares, strict=True):
        yield from self._running(name, inner * share)

  def _trips(self, loop: Operation) -> int:
    """Returns how often a loop runs: as it says, or up to where it counts."""
    known = _TRIPS.search(loop.text)
    if known:
      return int(known[1])
    condition = _CONDITION.search(loop.text)
    limits = [
      int(_in_parentheses(one.text))
      for one in self.computations[condition[1] if condition else ""]
      if one.opcode == "constant" and one.result.startswith("s32[]")
    ]
    if len(limits) == 1:
      return limits[0]
    self.open_loops += 1
    return 1

  def _gathered(self, operation: Operation) -> set[int]:
    """Returns the places of operands of which an operation reads some rows."""
    if operation.opcode in ROWS_ALONE:
      return {0}
    if operation.opcode != "fusion":
      return set()
    inner = self.computations[operation.called()[0]]
    readers = collections.defaultdict(set)
    for one in inner:
      for place, name in enumerate(one.operands):
        readers[name].add(one.opcode in ROWS_ALONE and place == 0)
    return {
      int(_in_parentheses(one.text))
      for one in inner
      if one.opcode == "parameter" and readers[one.name] == {True}
    }

  @property
  def cycles(self) -> float:
    """The compiler's estimate of the whole program; 0 where it makes none."""
    return sum(one.cycles * one.times for one in self.operations)

  def source(self, operation: Operation, ours: Callable[[str], bool]) -> str:
    """Returns "file:line" of the nearest line that asked for an operation.

    Args:
      operation: of this program.
      ours: file -> whether it counts.
    """
    frame = _FRAME.search(operation.text)
    if frame:
      for file, line in self._frames.chain(int(frame[1])):
        if ours(file):
          return f"{file}:{line}"
    line = _LINE.search(operation.text)
    return f"{line[1]}:{line[2]}" if line and ours(line[1]) else ""

  def collectives(self) -> list[Operation]:
    """Returns the operations that speak to other devices."""
    found = []
    for operation in self.operations:
      opcode = operation.opcode.removesuffix("-start")
      if opcode in COLLECTIVES:
        found.append(operation)
    return found

  def touching(self, dtype: str, size: int) -> list[Operation]:
    """Returns operations that read or write an array whole.

    What is in a fusion counts, too. A gather reads rows of its operand, and a
    slice of it as much as it returns: these are left out.

    Args:
      dtype: of the array, as the program writes it, e.g. "u8".
      size: how many numbers it has, in whatever shape.
    """
    # A loop, a call or a fusion hands an array on to its operations, and a
    # small one may be brought near the cores while others compute.
    handed_on = FREE | CONTAINERS | {"fusion", "copy-start", "copy-done"}
    found = []
    for operations in self.computations.values():
      whole = {
        one.name for one in operations if (dtype, size) in _sizes(one.result)
      }
      for one in operations:
        if one.opcode in handed_on:
          continue
        writes = one.name in whole and one.opcode != "dynamic-update-slice"
        # Of the first operand these read some rows, of the others all.
        first = 1 if one.opcode in ROWS_ALONE else 0
        reads = whole & {*one.operands[first:]}
        if writes or reads:
          found.append(one)
    return found


def _sizes(text: str) -> list[tuple[str, int]]:
  """Returns the types and sizes of all arrays of a type."""
  return [
    (dtype, math.prod(map(int, filter(None, sizes.split(",")))))
    for dtype, sizes in _ARRAY.findall(text)
  ]


def num_bytes(text: str) -> int:
  """Returns the bytes of all arrays of a type, e.g. "(f32[2,3], s8[4])"."""
  return sum(_width(dtype) * size for dtype, size in _sizes(text))


def _width(dtype: str) -> int:
  """Returns the bytes of a number of a type."""
  found = re.search(r"\d+", dtype)
  return max(int(found[0]) // 8, 1) if found else 1


def _operation(name: str, text: str) -> Operation:
  """Reads what stands behind "name = "."""
  end = _end_of_type(text)
  result, rest = text[:end], text[end:].strip()
  opcode, _, rest = rest.partition("(")
  return Operation(name, opcode, result, f"({rest}")


def _end_of_type(text: str) -> int:
  """Returns where the type ends with which an operation begins."""
  if not text.startswith("("):
    return text.index(" ")
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if depth == 0:
      return i + 1
  raise ValueError(f"no type: {text[:80]}")


def _in_parentheses(text: str) -> str:
  """Returns what stands in the parentheses with which a text begins."""
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if depth == 0:
      return text[1:i]
  return text


class _Frames:
  """The tables in front of a program that say which lines asked for what."""

  def __init__(self, text: str):
    """Reads the tables of a program, where there are some."""
    begins = _FIRST.search(text)
    head = text[: begins.start()] if begins else ""
    self._files = _table(head, "FileNames")
    self._locations = _table(head, "FileLocations")
    self._frames = _table(head, "StackFrames")

  def chain(self, frame: int) -> Iterator[tuple[str, int]]:
    """Yields file and line of a frame and of those around it, inwards first."""
    while frame in self._frames:
      fields = _fields(self._frames[frame])
      location = _fields(self._locations[fields["file_location_id"]])
      name = self._files[location["file_name_id"]].strip('"')
      yield name, location["line"]
      # They count from 1, and 0 stands for none.
      frame = fields.get("parent_frame_id", 0) - 1


def _table(text: str, name: str) -> dict[int, str]:
  """Returns the numbered lines of a table."""
  found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
  rows = found[1].splitlines() if found else []
  split = (row.split(" ", 1) for row in rows)
  return {int(number): rest for number, rest in split}


def _fields(text: str) -> dict[str, int]:
  """Returns the numbers of "{name=1 other=2}"."""
  return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", text)}
