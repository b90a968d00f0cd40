"""Every command that a page prints is one that runs: parsed, not run."""

import ast
import json
import pathlib
import re
import shlex

import pytest

from ganjax import __main__ as command
from ganjax import data, errors, main, tools
from ganjax.evaluation import extractors
from ganjax.runs import configs, scoring
from ganjax.tools import analyze, evaluate
from ganjax.tools.bench.command import CONFIGS
from ganjax.tools.sweep import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What stands for a value of the reader's -> one that is as good.
PLACEHOLDERS = {
  "SEED": "1",
  "DIR": "folder",
  "NAME": "rgan_stable",
  "HOST:1234": "localhost:1234",
}
# Flags of `train` that would join other processes.
OF_PROCESSES = ("--coordinator", "--num_processes", "--process_id")
# What no user types; the machine starts it.
INTERNAL = ("ganjax.tools.sweep.cell",)
# Its commands are about files that the page itself has: its test runs them.
RUN_ELSEWHERE = ("docs/extending.md", "docs/cyclegan/README.md")


def pages():
  """Yields (name, text in Markdown) of what prints commands."""
  paths = [ROOT / name for name in ("README.md", "WORKSPACE.md")]
  paths += [ROOT / "CONTRIBUTING.md"]
  paths += [*ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")]
  for path in paths:
    name = str(path.relative_to(ROOT))
    if name not in RUN_ELSEWHERE:
      yield name, path.read_text()
  for path in sorted(ROOT.glob("experiments/**/*.py")):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    yield str(path.relative_to(ROOT)), docstring or ""
  for path in sorted(ROOT.glob("notebooks/*.ipynb")):
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] != "code"]
    yield str(path.relative_to(ROOT)), "\n\n".join(texts)
  for verb in tools.VERBS:
    if verb != "train":
      text = getattr(command.find(verb), "EXAMPLES", "")
      yield f"ganjax {verb} --help", f"```\n{text}\n```"


def snippets(text):
  """Yields the code of a page: of blocks, line by line, and within prose."""
  fence = re.compile(r"^```.*?\n(.*?)^```", re.M | re.S)
  blocks = fence.findall(text)
  text = fence.sub("", text)
  indented = re.compile(r"(?:^ {4}.*\n?)+", re.M)
  blocks += indented.findall(text)
  for block in blocks:
    yield from block.replace("\\\n", " ").splitlines()
  for span in re.findall(r"`([^`]+)`", indented.sub("", text)):
    yield " ".join(span.split())


def commands(snippet):
  """Yields the words of each command of ganjax in a snippet."""
  if not re.search(r"\bganjax\b", snippet):
    # A row of a table of runs: an experiment and its flags.
    name = re.match(r"([a-z]\w*)(:\w+)?( --config\..*)?$", snippet)
    if name and name[1] in configs.experiments():
      yield ["ganjax", "train", "--config", *shlex.split(snippet)]
    return
  for part in re.split(r"&&|;|\n", snippet):
    try:
      words = shlex.split(part, comments=True)
    except ValueError:  # Not of a shell.
      continue
    words = [w for w in words if w not in ("...", "FLAGS")]
    for i, word in enumerate(words):
      if word == "-m" and words[i + 1].split(".")[0] == "ganjax":
        yield words[i + 1 :]
        break
      if word == "ganjax" and words[i + 1 :] and words[i - 1] != "cd":
        yield words[i:]
        break


COMMANDS = [
  (name, words)
  for name, text in pages()
  for snippet in snippets(text)
  for words in commands(snippet)
]


def filled(word):
  """Returns a word with what the reader is to fill in filled in."""
  head, equals, value = word.rpartition("=")
  return head + equals + PLACEHOLDERS.get(value, value)


def check(words):
  """Raises an error if a command is wrong."""
  module, *argv = map(filled, words)
  if module in INTERNAL:
    return
  if module == "ganjax.main":
    argv = ["train", *argv]
  elif module != "ganjax":
    raise errors.UserError(f"{module} is no command")
  verb, *argv = argv
  if verb in ("--help", "--version"):
    return
  if verb not in tools.VERBS:
    raise errors.unknown("verb", verb, tools.VERBS)
  if argv in ([], ["--help"], ["--config"]):  # It is only spoken of.
    return
  CHECKS.get(verb, lambda _: None)(
    argv if verb == "train" else command.parse(verb, argv)
  )


def check_train(argv):
  main.parse(["main", *(a for a in argv if not a.startswith(OF_PROCESSES))])


def check_sweep(args):
  tables.load(args.table)


def check_bench(args):
  spec = args.loop or args.config or CONFIGS.split()[0]
  main.parse(["bench", f"--config={spec}", *args.flags])


def check_analyze(args):
  for name in (args.only or "").split(","):
    if name:
      analyze.find(name)


def check_evaluate(args):
  evaluate.specs_of(args.metrics or evaluate.STANDARD, args.num)
  if args.extractor:
    extractors.find(evaluate.named(args.extractor)[0])
  if args.against not in ("", "train", "test", "validation"):
    data.find(scoring.dataset(args.against)[0]["name"])


CHECKS = {
  "train": check_train,
  "sweep": check_sweep,
  "bench": check_bench,
  "analyze": check_analyze,
  "evaluate": check_evaluate,
}


def test_the_pages_print_commands():
  """The collector sees what a reader sees."""
  found = {" ".join(words) for _, words in COMMANDS}
  assert {name for name, _ in COMMANDS} >= {
    "README.md",
    "results/README.md",
    "results/parzen.md",
    "experiments/tfd_mlp.py",
    "experiments/tables/toy_modes.py",
    "ganjax evaluate --help",
  }
  for verb in tools.VERBS:
    assert any(text.startswith(f"ganjax {verb}") for text in found), verb
  assert "ganjax.main --config experiments/cifar_dcgan.py" in found
  assert "ganjax train --config mnist_anogan:f_anogan" in found
  assert len(found) > 80


@pytest.mark.parametrize(
  "name", sorted({name for name, _ in COMMANDS}), ids=lambda name: name
)
def test_every_printed_command_parses(name, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  wrong = []
  for page, words in COMMANDS:
    if page != name:
      continue
    try:
      check(words)
    except SystemExit:
      wrong.append(f"{shlex.join(words)}: {capsys.readouterr().err}")
    except errors.UserError as error:
      wrong.append(f"{shlex.join(words)}: {error}")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
  "line",
  [
    "python -m ganjax.sweep rgan_stable",
    "ganjax smaple runs/x",
    "ganjax sample runs/x --nmu 3",
    "ganjax sweep rgan_stabel",
    "ganjax train --config digits_dcgn",
    "ganjax train --config digits_dcgan --config.generator.widht=8",
    "digits_dcgan --config.batch_size=x",
    "ganjax evaluate runs/x --metrics frechte",
  ],
)
def test_a_wrong_command_would_be_seen(line):
  (words,) = commands(line)
  with pytest.raises((errors.UserError, SystemExit)):
    check(words)
