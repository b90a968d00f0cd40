import math

import numpy as np
import pytest
from PIL import Image

from ganjax.runs import curves, plots

HEALTH = dict(
  d_loss=1.2,
  g_loss=0.8,
  d_real_accuracy=0.7,
  d_fake_accuracy=0.6,
  d_real=0.6,
  d_fake=0.4,
  logit_gap=0.9,
  d_grad_norm=0.1,
  g_grad_norm=0.02,
  d_saturation=0.3,
  g_saturation=0.2,
  d_sigma_max=3.0,
  g_sigma_max=2.0,
  penalty_r1=0.01,
  penalty_gradient_penalty=0.2,
  augment_p=0.1,
  spread=0.95,
  frechet=9.0,
  classes=10,
  classes_covered=8,
  class_kl=0.1,
  modes=8,
  modes_covered=8,
  high_quality=0.9,
  mode_kl=0.02,
  mine=-1.0,
  images_per_sec=5000.0,
)
TITLES = [
  "Loss",
  "Accuracy of D",
  "Mean output of D",
  "Logit gap",
  "Gradient norm",
  "Share of gradient lost",
  "Top singular value",
  "Penalties",
  "Augmentation probability",
  "Spread of samples / real",
  "Fréchet distance",
  "Classes covered",
  "KL of class shares (nats)",
  "Modes covered",
  "High-quality share",
  "KL of mode shares (nats)",
  "mine",
  "Images / s",
]


@pytest.fixture(scope="module")
def usual():
  return panels(healthy(20))


def panels(history, log2=False):
  """Returns title -> axes of the page."""
  page = curves._page(history, log2)
  return {axes.get_title(loc="left"): axes for axes in page.axes}


def read(path):
  assert 0 < path.stat().st_size < 300_000
  assert [p.name for p in path.parent.iterdir()] == [path.name]  # No temporary.
  return np.asarray(Image.open(path).convert("RGB")).astype(int)


def has(picture, colour):
  """Returns how many pixels are nearly of a colour such as "#0072B2"."""
  rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
  return np.sum(np.abs(picture - rgb).max(axis=2) < 24)


def legend(axes):
  found = axes.get_legend()
  return [text.get_text() for text in found.get_texts()] if found else []


def rows(num):
  rng = np.random.RandomState(0)
  keys = "d_loss g_loss d_real_accuracy d_fake_accuracy images_per_sec".split()
  return [
    {"step": 10 * i, **dict(zip(keys, rng.uniform(size=5), strict=True))}
    for i in range(num)
  ]


def healthy(num, **changes):
  rng = np.random.RandomState(0)
  return [
    {
      "step": 10 * i,
      **{k: v * (1 + 0.1 * rng.uniform()) for k, v in HEALTH.items()},
      "classes": 10,
      "modes": 8,
      **changes,
    }
    for i in range(1, num + 1)
  ]


def test_curves_have_a_panel_a_kind_of_metric(tmp_path):
  history = rows(400)
  history[40]["d_loss"] = "nan"
  history[80].update(frechet=9.5, classes=10, classes_covered=8, class_kl=0.1)
  history[90].update(frechet=float("inf"), mine="inf")
  curves.draw(tmp_path / "x.png", history, log2=True)
  picture = read(tmp_path / "x.png")
  assert picture.shape[:2] == (640, 1260)  # Six panels; `mine` has no value.
  for y in range(2):
    for x in range(3):
      panel = picture[320 * y : 320 * y + 320, 420 * x : 420 * x + 420]
      assert has(panel, plots.BLUE), (y, x)
  assert has(picture[:320, :420], plots.ORANGE)


@pytest.mark.parametrize(
  "history, panels",
  [
    ([], 1),
    (rows(1), 3),
    ([{"step": 1, "d_loss": "nan", "g_loss": 0.5}], 1),
    ([{"step": 1, "loss": 1.0}, {"step": 2}], 1),
    ([{"step": 1, "d_loss": None}], 1),
    ([{"step": 1, "d_loss": [1], "text": "a", "g_loss": {}}], 1),
    ([{"step": 0, "spread": 0.0}, {"step": 1, "penalty_r1": 0}], 2),
    ([{"step": 9, "d_grad_norm": 1e-38, "g_grad_norm": 1e30}], 1),
  ],
)
def test_curves_of_little(tmp_path, history, panels):
  curves.draw(tmp_path / "x.png", history)
  assert read(tmp_path / "x.png").shape[:2] == (320, 420 * panels)


def test_every_subject_has_its_panel_in_its_place(usual):
  found = usual
  assert list(found) == TITLES
  assert legend(found["Penalties"]) == ["r1", "gradient penalty"]
  assert legend(found["Gradient norm"]) == ["D", "G"]
  for title, key in (("Gradient norm", "g_grad_norm"), ("mine", "mine")):
    (*_, line) = (x for x in found[title].lines if len(x.get_xdata()) > 2)
    np.testing.assert_array_equal(
      line.get_ydata(), [row[key] for row in healthy(20)]
    )
  assert {axes.get_xlim() for axes in found.values()} == {(-6, 206)}


def test_a_page_of_many_panels_and_rows_keeps_its_size(tmp_path):
  extra = {f"extra_{i}": float(i) for i in range(6)}
  history = healthy(1000, **extra)
  curves.draw(tmp_path / "x.png", history)
  assert read(tmp_path / "x.png").shape[:2] == (8 * 320, 1260)


@pytest.mark.parametrize(
  "title, height",
  [
    ("Accuracy of D", 0.5),
    ("Mean output of D", 0.5),
    ("Spread of samples / real", 1.0),
    ("Classes covered", 10),
    ("Modes covered", 8),
  ],
)
def test_a_dashed_line_says_where_to_be(usual, title, height):
  dashed = [x for x in usual[title].lines if x.get_ls() == "--"]
  assert [x.get_ydata()[0] for x in dashed] == [height]


@pytest.mark.parametrize(
  "values, scale",
  [
    ([1e-3, 1.0, 10.0], "log"),
    ([1.0, 1.0, 1.0], "log"),
    ([0.0, 1.0, 10.0], "linear"),
    ([-1.0, 1.0, 10.0], "linear"),
    ([0.0] + 30 * [1.0], "log"),  # One step without a gradient.
  ],
)
def test_an_axis_is_logarithmic_where_it_hides_nothing(values, scale):
  history = [dict(step=i, penalty_a=x, spread=x) for i, x in enumerate(values)]
  for axes in panels(history).values():
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    inside = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(inside) >= 3  # A scale can be read off.


def test_shares_have_the_axis_of_shares(usual):
  for title in TITLES:
    named = "share" in title.lower() and "nats" not in title
    share = named or title in (
      "Accuracy of D",
      "Mean output of D",
      "Augmentation probability",
    )
    assert (usual[title].get_ylim() == curves.SHARE) == share, title


def test_a_diagnosis_is_a_strip_above_every_panel():
  names = ["", "equilibrium", "equilibrium", "", "diverged", "odd"]
  history = healthy(6)
  for row, name in zip(history, names, strict=True):
    row["diagnosis"] = name
  history.insert(3, {"step": 35, "frechet": 3.0})  # A row that says nothing.
  found = panels(history)
  expected = {(10, 30): "equilibrium", (40, 50): "diverged", (50, 60): "odd"}
  for axes in found.values():
    (strip,) = axes.collections
    spans = [tuple(path.vertices[:, 0]) for path in strip.get_paths()]
    assert spans == list(expected)
  before = panels([{**row, "diagnosis": ""} for row in history])
  for title in TITLES:  # It hides nothing and moves nothing.
    limits = found[title].get_ylim(), before[title].get_ylim()
    np.testing.assert_allclose(*limits, rtol=1e-9)
  (key,) = found["Loss"].figure.legends
  assert [t.get_text() for t in key.get_texts()] == [*expected.values()]


def test_spans_are_the_steps_over_which_a_diagnosis_held():
  names = ["", "x", "x", None, "x", "", "y", ""]
  history: list = [dict(step=i, diagnosis=name) for i, name in enumerate(names)]
  history.append(dict(step=9, frechet=1.0))
  assert curves.spans(history) == [("x", 0, 4), ("y", 5, 6)]
  assert curves.spans([]) == []


def test_strips_have_their_colours_and_a_legend(tmp_path):
  history = rows(40)
  names = list(curves.DIAGNOSES)
  for i, row in enumerate(history):
    row["diagnosis"] = names[min(i // 10, 3)]
  curves.draw(tmp_path / "x.png", history)
  picture = read(tmp_path / "x.png")
  assert picture.shape[:2] == (320 + curves.LEGEND, 1260)
  for name in names[:4]:
    assert has(picture[-curves.LEGEND :], curves.DIAGNOSES[name]) > 50, name
    for x in range(3):
      panel = picture[20:80, 420 * x : 420 * x + 420]
      assert has(panel, curves.DIAGNOSES[name]) > 50, (name, x)


@pytest.mark.parametrize("diagnosis", [None, ""])
def test_no_diagnosis_no_strip(tmp_path, diagnosis):
  history = [{**row, "diagnosis": diagnosis} for row in rows(9)]
  curves.draw(tmp_path / "x.png", history)
  assert len(read(tmp_path / "x.png")) == 320


def test_log_2_is_drawn_only_if_asked_for():
  for log2 in (False, True):
    axes = panels(rows(20), log2=log2)["Loss"]
    heights = [x.get_ydata()[0] for x in axes.lines if x.get_ls() == "--"]
    assert heights == [math.log(2)] * log2
    assert legend(axes) == ["D", "G"] + ["log 2"] * log2


def test_a_running_mean_neither_lags_nor_fades_at_the_ends():
  ramp = np.arange(400.0)
  mean = curves._running_mean(ramp, 13, log=False)
  np.testing.assert_allclose(mean[20:-20], ramp[20:-20])
  mean = curves._running_mean(np.ones(400), 13, log=False)
  np.testing.assert_allclose(mean, 1)


def test_a_running_mean_on_a_logarithmic_axis_is_geometric():
  ramp = np.arange(400.0)
  mean = curves._running_mean(np.exp(-ramp / 9), 13, log=True)
  np.testing.assert_allclose(mean[20:-20], np.exp(-ramp / 9)[20:-20])
  mean = curves._running_mean(0.5 * (ramp != 7), 13, log=True)
  np.testing.assert_allclose(mean, 0.5)


@pytest.mark.parametrize("count", [14, 15, 59, 60, 400])
def test_a_long_series_is_faint_behind_its_mean(count):
  history = [dict(step=i, mine=math.sin(i)) for i in range(count)]
  lines = panels(history)["mine"].lines
  values = np.array([row["mine"] for row in history])
  np.testing.assert_array_equal(lines[0].get_ydata(), values)
  assert len(lines) == (2 if count >= 60 else 1)
  assert (lines[0].get_marker() == "o") == (count < 15)
  if count >= 60:
    mean = curves._running_mean(values, count // 30, log=False)
    np.testing.assert_array_equal(lines[1].get_ydata(), mean)
    assert lines[0].get_alpha() < 0.5 and lines[1].get_alpha() is None


def test_a_curve_has_the_long_legend_inside():
  short = healthy(5)
  long = healthy(5, penalty_zero_centred_gradient=0.1)
  for history, outside in ((short, True), (long, False)):
    axes = panels(history)["Penalties"]
    box = axes.get_legend().get_window_extent()
    assert (box.y0 > axes.get_window_extent().y1 - 3) == outside
