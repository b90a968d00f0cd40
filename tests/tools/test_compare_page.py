"""The page of a comparison: what it says, and that it needs nothing else."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from test_compare import STEPS, write_run

from ganjax.runs import curves as one_run
from ganjax.tools.compare import (
  curves,
  groups,
  page,
  runs,
  samples,
)

HOSTILE = "<script>alert('x')</script>\"&"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Reader(html.parser.HTMLParser):
  """Collects tags with their attributes, and the text."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text = [], ""
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data

  def of(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def snapshots(workdir, images, steps=(0, STEPS)):
  folder = workdir / "samples"
  folder.mkdir()
  for step in steps:
    np.save(folder / f"{step:08d}.npy", images)


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
  """Three seeds, a setting of one, and one with names that want to be code."""
  folder = tmp_path_factory.mktemp("runs")
  rows = lambda x, said: [
    dict(step=1, d_loss=x, frechet=9.0, diagnosis=""),
    dict(step=3, d_loss=x + 1, diagnosis=said),
    dict(step=STEPS, d_loss=x + 2, frechet=2.0, diagnosis=said),
  ]
  for seed in range(3):
    path = folder / f"seed_{seed}"
    write_run(path, seed, 2.0, rows=rows(seed, "generator collapsed"))
    snapshots(path, noise(4, 8, 8, 1))
  write_run(folder / "one", 0, 2.0, rows=rows(7.0, ""), loss=dict(name="hinge"))
  name = HOSTILE.replace("/", "")
  path = write_run(
    folder / name, 0, 2.0, rows=rows(3.0, HOSTILE), start_from=HOSTILE
  )
  snapshots(path, noise(4, 8, 8, 1))
  logged = json.loads((path / "environment.json").read_text())
  logged["device_kind"] = HOSTILE
  (path / "environment.json").write_text(json.dumps(logged))
  return groups.compare(*runs.read([folder]))


@pytest.fixture(scope="module")
def text(comparison):
  return page.html(comparison)


def test_all_names_are_escaped(text):
  read = Reader(text)
  assert len(read.of("script")) == 2  # The data and the page's own.
  assert "<script>alert" not in text
  assert text.count("&lt;script&gt;alert(&#39;x&#39;)&lt;") > 5
  assert not any(key.startswith("on") for _, a in read.tags for key in a)
  # The name is read as it was: as text, as a label, in the data.
  assert HOSTILE in read.text
  labels = [a["aria-label"] for _, a in read.tags if "aria-label" in a]
  assert any(HOSTILE in label for label in labels)
  data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
  assert f"start_from={HOSTILE}" in json.loads(data[1])["names"][0]


def test_the_page_needs_nothing_else(text):
  read = Reader(text)
  for _, attributes in read.tags:
    assert attributes.get("src", "data:").startswith(
      "data:image/png;base64,"[: len(attributes.get("src", "data:"))]
    )
    assert attributes.get("href", "#").startswith("#")
    assert not attributes.keys() & {"srcset", "action", "poster", "srcdoc"}
  assert not {"link", "iframe", "object", "base", "form"} & {
    t for t, _ in read.tags
  }
  plain = re.sub(r"data:image/png;base64,[^\"]*", "", text)
  # The library names its address in a comment, and loads nothing, either.
  library = (page.WEB / "uPlot.iife.min.js").read_text(encoding="utf-8")
  assert library in plain
  for word in ("fetch(", "XMLHttpRequest", "import(", "eval(", "Function("):
    assert word not in library, word
  plain = re.sub(r"(?m)^\s*//.*| // .*", "", plain.replace(library, ""))
  for word in ("http:", "https:", "//", "url(", "@import", "fetch("):
    assert word not in plain, word
  (policy,) = [a for a in read.of("meta") if "http-equiv" in a]
  assert policy["content"].startswith("default-src 'none'")


def test_curves_are_mean_and_spread_by_hand(comparison, text):
  chart = next(c for c in curves.charts(comparison) if c.key == "d_loss")
  plain = curves.plain(chart)
  names = [comparison.groups[c["group"]].name for c in plain["curves"]]
  found = dict(zip(names, plain["curves"], strict=True))
  many = next(v for v in found.values() if v["spread"][0] is not None)
  assert many["steps"] == [1, 3, STEPS]
  assert many["mean"] == [1, 2, 3] and many["spread"] == [1, 1, 1]
  assert [v["spread"] for v in found.values()].count([None] * 3) == 2
  # These are the numbers that the script draws, and what a blind reader hears.
  data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
  titles = [c.title for c in curves.charts(comparison)]
  assert data["charts"][titles.index(chart.title)] == plain
  said = curves.describe(chart, [g.name for g in comparison.groups])
  assert said.startswith("Loss: D over steps; at the end: ")
  labels = [a["aria-label"] for _, a in Reader(text).tags if "aria-label" in a]
  assert said in labels


def chart_of(values, **panel):
  steps = np.arange(float(len(values)))
  curve = curves.over_seeds(0, [(steps, np.asarray(values, float))] * 2, 80)
  return curves.Chart("", "", [curve], curves.one_run.Panel("", {}, **panel))


def test_an_axis_keeps_bounds_and_marks_what_is_inside():
  inside = curves.plain(
    chart_of([0, 0.5, 1], bounds=(0.0, 1.0), line=(0.5, ""))
  )
  assert inside["range"] == [0, pytest.approx(1.04)]  # Above 1 is some margin.
  assert inside["mark"] == 0.5 and inside["log"] is False
  outside = curves.plain(chart_of([0, 0.5, 1], line=(2.0, "")))
  assert outside["mark"] is None
  assert outside["range"] == [pytest.approx(-0.04), pytest.approx(1.04)]
  # A flat curve has some room, too.
  low, high = curves.plain(chart_of([0.0, 0.0]))["range"]
  assert low < 0 < high


def test_a_single_spike_does_not_flatten_a_curve():
  steps = np.arange(80.0)
  axis = curves.axis(chart_of(np.where(steps == 0, 1e6, 1 + steps / 80)))
  assert axis.high < 10 and not axis.log
  flat = curves.axis(chart_of(0 * steps + 3, log=True))
  assert flat.log and flat.low < 1 < 9 < flat.high
  # Where a logarithm has no place the axis is linear.
  assert not curves.axis(chart_of(steps, log=True)).log


def test_scores_of_other_protocols_stand_on_other_axes(tmp_path):
  rows = [dict(step=s, frechet=1.0, d_loss=1.0) for s in (1, STEPS)]
  write_run(tmp_path / "a", 0, 1.0, rows=rows)
  write_run(
    tmp_path / "b",
    0,
    1.0,
    rows=rows,
    protocol=dict(num_fake=99),
    loss=dict(name="hinge"),
  )
  charts = curves.charts(groups.compare(*runs.read([tmp_path])))
  found = {chart.title: [c.group for c in chart.curves] for chart in charts}
  assert found == {
    "Fréchet distance, table 1": [0],
    "Fréchet distance, table 2": [1],
    "Loss: D": [0, 1],
  }


def test_health_over_time(text):
  rows = [
    dict(step=s, diagnosis=d) for s, d in ((1, ""), (2, "x"), (3, "x"), (5, ""))
  ]
  assert one_run.spans([*rows, dict(step=9, frechet=1.0)]) == [("x", 1, 3)]
  labels = [a["aria-label"] for _, a in Reader(text).tags if "aria-label" in a]
  said = "seed_1, finished, generator collapsed: "
  assert said + "generator collapsed in steps 1 to 4" in labels
  assert "one, finished: nothing" in labels


def test_pictures_show_the_samples(comparison, text):
  pictures = Reader(text).of("img")
  assert len(pictures) == 4 * 2  # Three seeds and the hostile one, two times.
  assert [p["data-step"] for p in pictures if "hidden" not in p] == ["4"] * 4
  assert "4 samples of seed_0 at step 4" in [p["alt"] for p in pictures]
  address = pictures[0]["src"].partition(",")[2]
  image = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))))
  tiles = samples.tiles(noise(4, 8, 8, 1), 48)
  np.testing.assert_array_equal(image, tiles[..., 0])
  np.testing.assert_array_equal(tiles[1:9, 10:18], noise(4, 8, 8, 1)[1])
  assert tiles.shape == (19, 19, 1)


def test_large_images_become_smaller_and_points_a_histogram(tmp_path):
  assert samples.tiles(noise(3, 60, 30, 3), 20).shape == (43, 23, 3)
  points = np.array([[-1.0, 1.0]] * 9 + [[np.nan, 0.0], [5.0, 5.0]])
  dark = np.argwhere(samples.histogram(points)[..., 0] == 0)
  (((row, column)),) = dark
  assert row < 20 and column < 20  # Above, at the left.
  write_run(tmp_path / "a", 0)
  snapshots(tmp_path / "a", points, range(30))
  (tmp_path / "a" / "samples" / "00000007.npy").write_bytes(b"torn")
  (found,) = samples.frames(runs.read([tmp_path])[0], 10**6)
  assert [f.step for f in found] == [0, 3, 6, 9, 12, 14, 17, 20, 23, 26, 29]


def test_eight_runs_of_incompressible_samples_fit(tmp_path):
  rows = [
    dict(step=s, diagnosis="", **{f"x{k}": s / (k + 1) for k in range(30)})
    for s in range(1, 101)
  ]
  for seed in range(8):
    path = tmp_path / f"run_{seed}"
    loss = dict(d_weight=1.0 + seed)
    write_run(path, seed, 1.0 + seed, rows=rows, num_steps=100, loss=loss)
    snapshots(path, noise(64, 64, 64, 3), range(0, 101, 10))
  found = groups.compare(*runs.read([tmp_path]))
  text = page.html(found)
  assert len(found.groups) == 8
  assert 500_000 < len(text.encode()) < 5_000_000
  # Less room: fewer pictures, and none at all in the end.
  few = samples.frames(found.runs, 30_000)
  assert 0 < sum(len(f.address) for run in few for f in run) <= 30_000
  assert not any(samples.frames(found.runs, 100))


def test_configs_and_environment(comparison, text):
  read = Reader(text)
  assert "start_from" in read.text and "keys that all share" in read.text
  assert "jax 0.7.2" in read.text and "git commit abc" in read.text
  assert "my-machine" not in text and "/home/me" not in text


def test_without_rows_and_samples_there_is_a_page(tmp_path):
  write_run(tmp_path, 0, rows=[])
  text = page.html(groups.compare(*runs.read([tmp_path])))
  assert "No rows are logged yet" in text and "#samples" not in text
  assert "unfinished: step 0 of 4" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_script_runs_in_a_browser(comparison, text, tmp_path):
  # What a reader does: hide a setting, go back in time, point at a curve.
  act = """<div id="seen"></div><script>
  const seen = {errors: []};
  window.onerror = message => seen.errors.push(message);
  const k = data.charts.length - 1;  // The loss, in which settings differ.
  // The colour on the canvas where a curve's middle point must stand.
  const inked = c => {
    const u = charts[k], {steps, mean} = data.charts[k].curves[c];
    const x = u.valToPos(steps[1], 'x', true);
    const y = u.valToPos(mean[1], 'y', true);
    return [...u.ctx.getImageData(Math.round(x), Math.round(y), 1, 1).data];
  };
  setTimeout(() => {  // uPlot draws once the script is through.
    seen.before = [0, 1, 2].map(inked);
    seen.colours = [0, 1, 2].map(c => setting(data.charts[k].curves[c].group));
    boxes[1].checked = false; boxes[1].onchange();
    slider.value = 0; slider.oninput();
    charts[k].setCursor({left: .9 * charts[k].over.clientWidth, top: 5});
    setTimeout(() => {
      seen.after = [0, 1, 2].map(inked);
      document.getElementById('seen').textContent = JSON.stringify(seen);
    });
  });
  </script>"""
  path = tmp_path / "page.html"
  path.write_text(text.replace("</body>", act + "</body>"), encoding="utf-8")
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
  command += [f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
  command += ["--virtual-time-budget=5000"]
  found = subprocess.run(
    [*command, path.as_uri()], capture_output=True, text=True, timeout=120
  )
  read = Reader(found.stdout)
  assert "disabled" not in read.of("fieldset")[0]
  shown = [p["data-step"] for p in read.of("img") if "hidden" not in p]
  assert shown == ["0"] * 4
  hidden = {
    a["class"] for _, a in read.tags if "off" in a.get("class", "").split()
  }
  assert hidden and all("g1" in name.split() for name in hidden)
  tip = found.stdout.partition('id="tip"')[2].partition("<script")[0]
  assert "step 4" in tip and comparison.groups[1].name not in tip
  assert tip.count('class="key') == len(comparison.groups) - 1
  seen = json.loads(re.search(r'id="seen">(.*?)</div>', found.stdout)[1])
  assert seen["errors"] == []
  # Each curve goes through its point in its colour; the hidden one is gone.
  for colour, pixel in zip(seen["colours"], seen["before"], strict=True):
    wanted = [*bytes.fromhex(colour.removeprefix("#")), 255]
    np.testing.assert_allclose(pixel, wanted, atol=8)  # Edges are blended.
  assert seen["after"][1] != seen["before"][1]
  assert [seen["after"][c] for c in (0, 2)] == [
    seen["before"][c] for c in (0, 2)
  ]
