"""Pictures of the GAN on the line: figure 1 of 2014, and its collapse."""

import pathlib
from typing import Any

import jax
import numpy as np

from ganjax.runs import plots
from ganjax.tools import theory
from ganjax.tools.theory import gan_1d
from ganjax.tools.theory.figures import GREEN, SMALL, Rows

DATA_STYLE: dict[str, Any] = {"color": "black", "lw": 1.3, "ls": ":"}
G_STYLE: dict[str, Any] = {"color": GREEN, "lw": 1.5}
D_STYLE: dict[str, Any] = {"color": plots.BLUE, "lw": 1.5, "ls": (0, (5, 2))}
BEST_STYLE: dict[str, Any] = {"color": plots.ORANGE, "lw": 3, "alpha": 0.4}
X_LINE, Z_LINE = -0.16, -0.46  # where x and z stand under the densities
WHERE = "\nwhere $p_{data} + p_g > 10^{-3}$"


def figure_1(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Figure 1 of 2014: D and G approach their equilibrium on the line."""
  short = {"d_steps": 20, "num_rounds": 2} if quick else {}
  stages = gan_1d.figure_1(jax.random.key(seed), **short)
  risen = 100 * float(gan_1d.risen(stages[1].d, stages[1].g, stages[2].g))
  partly, inner = (float(gan_1d.sup_error(s.d, s.g)) for s in stages[:2])
  end, x = stages[3], gan_1d.GRID
  off = np.abs(jax.nn.sigmoid(gan_1d.logits(end.d, x)) - 0.5)
  off = float(off[np.asarray(gan_1d.judged(end.g))].max())
  panels = [
    (
      "(a)  Near a fit, D partly trained",
      f"sup |D − D*| = {partly:.3f}{WHERE}",
    ),
    (
      "(b)  Inner loop: D trained to the end",
      f"sup |D − D*| = {inner:.3f}{WHERE}",
    ),
    ("(c)  One step of G along D's slope", f"D rose for {risen:.0f} % of z"),
    (
      "(d)  After many rounds: p_g = p_data",
      f"sup |D − 1/2| = {off:.3f}{WHERE}",
    ),
  ]
  page = plots.figure(1240, 960)
  for i, (stage, (title, note)) in enumerate(zip(stages, panels, strict=True)):
    axes = page.add_subplot(2, 2, i + 1)
    title = title.replace("p_g", "$p_g$").replace("p_data", "$p_{data}$")
    _line_panel(axes, title, stage.g, 2.0, 6.4)
    best = theory.optimal_discriminator(
      gan_1d.DATA.density(x), stage.g.density(x)
    )
    if i != 2:  # There D is the one of (b), G a step ahead.
      axes.plot(x, best, **BEST_STYLE, label="D* = $p_{data}/(p_{data}+p_g)$")
    else:
      before = stages[1].g.density(x)
      axes.plot(x, before, color=GREEN, lw=0.8, alpha=0.6, label="$p_g$ of (b)")
    d = jax.nn.sigmoid(gan_1d.logits(stage.d, x))
    axes.plot(x, d, **D_STYLE, label="D" if i != 2 else "D of (b)")
    _note(axes, note)
  page.tight_layout(h_pad=1.2, w_pad=1.5)
  plots.save(path, page)
  return [
    ("Fig. 1 (b): sup |D - D*|", inner, "< 0.05"),
    ("Fig. 1 (c): % of z that rose on D", risen, "> 50"),
    ("Fig. 1 (d): sup |D - 1/2|", off, "< 0.05"),
  ]


def _line_panel(axes, title: str, g: gan_1d.Generator, low, high) -> None:
  """Draws p_data, p_g, and below them the arrows from z to x = G(z)."""
  x = gan_1d.GRID
  plots.style(axes, title)
  axes.grid(False)
  axes.plot(
    x, gan_1d.DATA.density(x), **DATA_STYLE, label="$p_{data}$", zorder=3
  )
  # Finer where p_g is a spike; what is above 1 would cross the legend.
  near = float(g.mean) + float(g.scale) * np.linspace(-5, 5, 400)
  fine = np.sort(np.append(x, near))
  p_g = np.asarray(g.density(fine))
  axes.plot(fine, np.where(p_g <= 1, p_g, np.nan), **G_STYLE, label="$p_g$")
  z = gan_1d.uniform(16)
  for z_i, x_i in zip(np.asarray(z), np.asarray(g(z)), strict=True):
    start = low + 0.25 + (high - low - 0.7) * z_i, Z_LINE
    arrow = {"arrowstyle": "-|>", "lw": 0.6, "color": plots.GREY}
    arrow |= {"mutation_scale": 5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (x_i, X_LINE), start, arrowprops=arrow)
  for y, name in (X_LINE, "x"), (Z_LINE, "z"):
    axes.plot([low + 0.25, high - 0.3], [y, y], color="black", lw=0.8)
    axes.text(high - 0.22, y, name, style="italic", fontsize=8, va="center")
  axes.set(xlim=(low, high), ylim=(Z_LINE - 0.04, 1.24))
  axes.set(xticks=[], yticks=[0, 0.5, 1])
  axes.spines["left"].set_bounds(0, 1)
  axes.spines["bottom"].set_visible(False)
  axes.axhline(0, color="black", lw=0.6)


def _note(axes, text: str) -> None:
  """Writes `text` at the left above the curves, the legend at the right."""
  low, high = axes.get_xlim()
  x = low + 0.02 * (high - low)
  axes.text(x, 1.21, text, fontsize=SMALL, va="top", linespacing=1.5)
  axes.legend(loc="upper right", frameon=False, fontsize=SMALL, ncols=2)


def collapse(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """The Helvetica scenario (2014, sec. 6): G trained against a frozen D."""
  del seed
  start, num_steps = gan_1d.Generator(3.0, 1.2), 40 if quick else 400
  frozen = lambda x: gan_1d.optimal_logits(start, x)
  best = gan_1d.surest(start)
  g = gan_1d.train_generator(
    start, gan_1d.optimal_logits, start, num_steps, 0.03
  )
  page = plots.figure(1240, 960)
  for i, step in enumerate((0, num_steps // 40, num_steps // 4)):
    axes = page.add_subplot(2, 2, i + 1)
    title = f"{step} steps of G" if step else "D = D* of this G, then frozen"
    now = gan_1d.Generator(g.mean[step], g.scale[step])
    _line_panel(axes, title, now, 0.4, 6.6)
    x = gan_1d.GRID
    axes.plot(x, jax.nn.sigmoid(frozen(x)), **D_STYLE, label="D, frozen")
    axes.plot(
      [best, best], [X_LINE, 1], color=plots.ORANGE, lw=0.9, label="arg max D"
    )
    peak = float(now.density(now.mean))
    _note(axes, f"std of G(z) = {now.scale:.2g}\npeak of $p_g$ = {peak:.2g}")
  axes = page.add_subplot(2, 2, 4)
  plots.style(axes, "All z go to one x")
  axes.semilogy(g.scale, **G_STYLE, label="std of G(z)")
  distance = np.abs(np.asarray(g.mean) - best)
  axes.semilogy(distance, **D_STYLE, label="|mean of G(z) − arg max D|")
  axes.set_xlabel("Step of G", fontsize=8)
  axes.legend(frameon=False, fontsize=SMALL + 0.5)
  page.tight_layout(h_pad=1.2, w_pad=1.5)
  plots.save(path, page)
  return [
    ("Frozen D: std of G(z) at the end", float(g.scale[-1]), "< 0.001"),
    ("Frozen D: mean of G(z) at the end", float(g.mean[-1]), f"{best:.4f}"),
  ]
