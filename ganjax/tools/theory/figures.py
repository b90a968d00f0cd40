"""Pictures of what the papers prove and of the games they play.

A figure is a function `(path, seed, quick) -> rows`. It plays a game, draws it
into `path`, and returns what was measured, its value, and what the theory
expects of it, as text. With `quick` the games are too short for the numbers.
"""

import math
import pathlib
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.objectives import losses
from ganjax.runs import plots
from ganjax.tools import theory
from ganjax.tools.theory import games, gan_1d

Rows: TypeAlias = list[tuple[str, float, str]]

GREEN = "#009E73"  # Okabe and Ito, as in `plots`.
PURPLE = "#CC79A7"
SMALL = 7  # points
LOG4 = math.log(4)

# On the line: the data dotted and G solid as in the figure of 2014, D dashed.
# D* is broad and pale, since it lies under D where D is well trained.
DATA_STYLE: dict[str, Any] = {"color": "black", "lw": 1.3, "ls": ":"}
G_STYLE: dict[str, Any] = {"color": GREEN, "lw": 1.5}
D_STYLE: dict[str, Any] = {"color": plots.BLUE, "lw": 1.5, "ls": (0, (5, 2))}
BEST_STYLE: dict[str, Any] = {"color": plots.ORANGE, "lw": 3, "alpha": 0.4}
X_LINE = -0.16  # where x stands under the densities
Z_LINE = -0.46  # and z below it
WHERE = "\nwhere $p_{data} + p_g > 10^{-3}$"


def saturation(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """What each generator loss says of a fake, and how loudly (2014, sec. 3)."""
  del seed, quick
  looks = {
    "minimax": (plots.ORANGE, "-"),
    "non_saturating": (plots.BLUE, "-"),
    "least_squares": (GREEN, "--"),
    "hinge": (PURPLE, "-."),
  }
  logits = jnp.linspace(-10.0, 4.0, 281)
  page = plots.figure(1380, 500)
  value_axes, slope_axes, ratio_axes = (
    page.add_subplot(1, 3, i) for i in (1, 2, 3)
  )
  for name, (colour, dashes) in looks.items():
    line = {"color": colour, "ls": dashes, "lw": 1.5, "label": name}
    value_axes.plot(logits, jax.vmap(_generator_loss(name))(logits), **line)
    slope_axes.plot(logits, -_slope(name, logits), **line)
  ratio_axes.semilogy(logits, _ratio(logits), color="black", lw=1.5)
  rows: Rows = []
  for d, text in (0.1, "9"), (0.01, "99"), (1e-4, "9,999"):
    logit = _logit(d)
    ratio = float(_ratio(jnp.array([logit]))[0])
    rows.append((f"Gradient ratio at D = {d:g}", ratio, text))
    ratio_axes.plot(logit, ratio, "o", color=plots.BLUE, ms=4)
    ratio_axes.annotate(
      text,
      (logit, ratio),
      (6, 2),
      fontsize=8,
      color=plots.BLUE,
      textcoords="offset points",
    )
  for axes, title in (
    (value_axes, "Loss of G"),
    (slope_axes, "Push on the logit, −dLoss / dlogit"),
    (ratio_axes, "non_saturating / minimax = (1 − D) / D"),
  ):
    plots.style(axes, title)
    # The axis is even in logits, and is read in probabilities.
    marks = (1e-4, 0.001, 0.01, 0.1, 0.5, 0.9)
    axes.set_xticks([_logit(d) for d in marks], [f"{d:.6g}" for d in marks])
    axes.set_xlabel("D(G(z)) = sigmoid(logit)", fontsize=8)
  value_axes.set_ylim(-4.5, 12)
  slope_axes.set_ylim(-2.2, 5)
  value_axes.legend(frameon=False, fontsize=SMALL + 0.5)
  page.tight_layout(w_pad=1.5)
  plots.save(path, page)
  return rows


def _generator_loss(name: str):
  """Returns the loss of G as a function of one logit of a fake."""
  loss = losses.get(name).generator
  return lambda logit: loss(logit[None], logit[None])


def _slope(name: str, logits: jax.Array) -> jax.Array:
  """Returns the derivative of a loss of G at each of `logits [n]`."""
  return jax.vmap(jax.grad(_generator_loss(name)))(logits)


def _ratio(logits: jax.Array) -> jax.Array:
  """Returns how much steeper the non-saturating loss is, `[n]`."""
  return _slope("non_saturating", logits) / _slope("minimax", logits)


def _logit(probability: float) -> float:
  return math.log(probability / (1 - probability))


def criterion(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Theorem 1 on random histograms, and Prop. 2's way to the minimum."""
  rng = np.random.default_rng(seed)
  num_pairs = 20 if quick else 300
  num_steps = 50 if quick else 1000
  num_fit = 50 if quick else 5000
  with games.float64():
    # Low concentrations make spikes that hardly meet, high ones flat bins.
    levels = 10 ** rng.uniform(-2.5, 2, num_pairs)
    both = np.array([rng.dirichlet(np.full(20, c), 2) for c in levels])
    all_p = both[:, 0]
    all_q = both[:, 1]
    jsd = np.asarray(jax.vmap(theory.jensen_shannon)(all_p, all_q))
    c = np.asarray(jax.vmap(theory.virtual_criterion)(all_p, all_q))

    p, q = rng.dirichlet(np.full(40, 2.0), 2)
    d = games.fit_discriminator(p, q, num_fit)
    best = theory.optimal_discriminator(p, q)
    prop_1 = float(jnp.abs(d - best).max())

    trajectory = games.multiplicative_weights(p, q, num_steps)
    to_p = jax.vmap(theory.jensen_shannon, (None, 0))
    descent = np.asarray(to_p(jnp.asarray(p), trajectory))

    critic = games.fit_pairing(p, q, num_fit)
    paired = float(games.pairing_value(critic, p, q) + math.log(2))
    joint = float(theory.jensen_shannon(*games.pairs(p, q)))

  page = plots.figure(1120, 520)
  _draw_theorem_1(page.add_subplot(1, 2, 1), jsd, c)
  _draw_descent(page.add_subplot(1, 2, 2), descent)
  page.tight_layout(w_pad=2)
  plots.save(path, page)
  thm_1 = float(np.abs(c + LOG4 - 2 * jsd).max())
  # Its rounding may make the last distance negative.
  prop_2 = abs(float(descent[-1]))
  return [
    ("Prop. 1: max |D - D*|", prop_1, "< 1e-6"),
    ("Thm. 1: max |C + log 4 - 2 JSD|", thm_1, "< 1e-12"),
    (f"Prop. 2: JSD after {num_steps} steps", prop_2, "< 1e-15"),
    ("Pairing: |sup + log 2 - JSD|", abs(paired - joint), "< 1e-12"),
  ]


def _draw_theorem_1(axes, jsd: np.ndarray, c: np.ndarray) -> None:
  """Draws C(G) over the JSD of pairs of histograms, `[n]` each."""
  plots.style(axes, f"Theorem 1: {len(jsd)} random pairs of histograms")
  ends = np.array([0, math.log(2)])
  axes.plot(ends, -LOG4 + 2 * ends, color=plots.GREY, lw=1)
  axes.plot(jsd, c, "o", ms=3, color=plots.BLUE, alpha=0.5, mew=0)
  axes.plot(ends, -LOG4 + 2 * ends, "o", ms=5, color=plots.ORANGE)
  for x, y, side, text in (
    (0.045, -LOG4, "left", "$p_g = p_{data}$: −log 4"),
    (0.645, 0, "right", "disjoint: 0"),
    (0.385, -0.7, "left", "C(G) = −log 4 + 2 JSD"),
  ):
    label = axes.text(x, y, text, ha=side, va="center", fontsize=8)
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
  axes.set_xlabel("JSD($p_{data}$, $p_g$), nats", fontsize=8)
  axes.set_ylabel("C(G) = max V(D, G) over D, nats", fontsize=8)


def _draw_descent(axes, descent: np.ndarray) -> None:
  """Draws the JSD to the data at each step of p_g, `[n]`."""
  plots.style(axes, "Proposition 2: $p_g$ moved against an optimal D")
  # Below 1e-15 the sum's rounding would be drawn, not the distance. The 0 makes
  # sure that there is a first value below.
  falls = np.argmax(np.append(descent, 0) < 1e-15)
  axes.semilogy(descent[:falls], color=plots.BLUE, lw=1.5)
  axes.axhline(1e-16, color=plots.GREY, lw=0.8, ls="--")
  axes.text(0, 1.6e-16, "rounding in float64", fontsize=8, color=plots.GREY)
  axes.set_xlabel("Step of $p_g$ ← $p_g$ exp(−0.1 ∂C/∂$p_g$) / Z", fontsize=8)
  axes.set_ylabel("JSD($p_{data}$, $p_g$), nats", fontsize=8)


def dirac(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Orbits of the Dirac-GAN: what R1 and R2 are for."""
  del seed
  panels = [
    ("No penalty", 0.0, 0.0),
    ("R1, γ = 0.3", 0.3, 0.0),
    ("R2, γ = 0.3: as R1, D being linear", 0.0, 0.3),
    ("Both, γ = 0.5 each: critical", 0.5, 0.5),
  ]
  num_steps = 20 if quick else 90
  page = plots.figure(1560, 500)
  flows = []
  eulers = []
  all_roots = []
  for i, (title, gamma1, gamma2) in enumerate(panels):
    game = {"gamma1": gamma1, "gamma2": gamma2}
    roots = games.dirac_eigenvalues(**game)
    flow = games.dirac_orbit([1.0, 0.0], 10 * num_steps, 0.02, **game)
    euler = games.dirac_orbit([1.0, 0.0], num_steps, 0.2, "euler", **game)
    flows.append(flow)
    eulers.append(euler)
    all_roots.append(roots)
    axes = page.add_subplot(1, 4, i + 1)
    plots.style(axes, f"{title}\nλ = {_roots(roots)}")
    _draw_orbits(axes, flow, euler, gamma1, gamma2)
    if i == 0:
      axes.set_ylabel("ψ: the slope of D", fontsize=8)
  handles, names = page.axes[0].get_legend_handles_labels()
  page.tight_layout(rect=(0, 0.07, 1, 1), w_pad=1.2)
  page.legend(
    handles, names, loc="lower center", ncols=2, frameon=False, fontsize=8
  )
  plots.save(path, page)

  # Without a penalty the flow keeps θ² + ψ², which is 1 at the start, while
  # gradient steps along its tangent lead outwards.
  drift = float(jnp.abs((flows[0] ** 2).sum(axis=1) - 1).max())
  growth = float((eulers[0][-1] ** 2).sum())
  turning = float(np.imag(all_roots[0]).max())
  return [
    ("Dirac: drift of θ² + ψ², no penalty", drift, "< 1e-4"),
    ("Dirac: θ² + ψ² after Euler's steps", growth, "> 1"),
    ("Dirac: Im λ, no penalty", turning, "0.5"),
    ("Dirac: Re λ at γ₁ + γ₂ = 1", np.real(all_roots[3]).max(), "-0.5, twice"),
  ]


def _draw_orbits(
  axes, flow: jax.Array, euler: jax.Array, gamma1: float, gamma2: float
) -> None:
  """Draws two orbits `[n, 2]` on the arrows of the field they follow."""
  size = 1.7
  mesh = np.linspace(-size, size, 13)
  points = np.stack(np.meshgrid(mesh, mesh), -1).reshape(-1, 2)
  field = jax.jit(jax.vmap(games.dirac_field, (0, None, None)))
  arrows = field(points, gamma1, gamma2)
  # Square roots of the lengths, to show the direction of the slow ones too.
  arrows /= jnp.sqrt(jnp.linalg.norm(arrows, axis=1) + 1e-9)[:, None]
  axes.grid(False)
  axes.quiver(*points.T, *arrows.T, color="#cccccc", width=0.004, scale=18)
  look = {"color": plots.ORANGE, "lw": 0.7, "ms": 2.2, "marker": "o"}
  axes.plot(*euler.T, **look, label="gradient steps of 0.2")
  axes.plot(*flow.T, color=plots.BLUE, lw=1.6, label="continuous time")
  axes.plot(1, 0, "o", color="black", ms=4)  # the start
  axes.plot(0, 0, "+", color="black", ms=7)  # the equilibrium
  axes.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")
  axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
  axes.set_xlabel("θ: where G's sample is", fontsize=8)


def _roots(roots: np.ndarray) -> str:
  """Writes a conjugate pair, or two real roots, with two digits."""
  real = np.real(roots)
  imaginary = np.abs(np.imag(roots)).max()
  middle = f"{real.mean():.2f}"
  # Rounding of size epsilon splits a double root by the root of epsilon.
  if imaginary < 5e-3:
    text = f"{middle} twice" if np.ptp(real) < 5e-3 else f"{real}"
  elif middle in ("0.00", "-0.00"):
    text = f"±{imaginary:.2f} i"
  else:
    text = f"{middle} ± {imaginary:.2f} i"
  return text.replace("-", "−")


def figure_1(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Figure 1 of 2014: D and G approach their equilibrium on the line."""
  short = {"d_steps": 20, "num_rounds": 2} if quick else {}
  stages = gan_1d.figure_1(jax.random.key(seed), **short)
  partly, inner, moved, end = stages
  risen = 100 * float(gan_1d.risen(inner.d, inner.g, moved.g))
  partly_off = float(gan_1d.sup_error(partly.d, partly.g))
  inner_off = float(gan_1d.sup_error(inner.d, inner.g))
  d_at_end = jax.nn.sigmoid(gan_1d.logits(end.d, gan_1d.GRID))
  off_half = np.abs(d_at_end - 0.5)[np.asarray(gan_1d.judged(end.g))]
  end_off = float(off_half.max())
  panels = [
    (
      "(a)  Near a fit, D partly trained",
      f"sup |D − D*| = {partly_off:.3f}{WHERE}",
    ),
    (
      "(b)  Inner loop: D trained to the end",
      f"sup |D − D*| = {inner_off:.3f}{WHERE}",
    ),
    ("(c)  One step of G along D's slope", f"D rose for {risen:.0f} % of z"),
    (
      "(d)  After many rounds: $p_g$ = $p_{data}$",
      f"sup |D − 1/2| = {end_off:.3f}{WHERE}",
    ),
  ]
  page = plots.figure(1240, 960)
  for i, (stage, (title, note)) in enumerate(zip(stages, panels, strict=True)):
    axes = page.add_subplot(2, 2, i + 1)
    _draw_line(axes, title, stage.g, low=2.0, high=6.4)
    # In (c) G is a step ahead of D, so D* of this G is not what D aimed at.
    before = inner.g if stage is moved else None
    _draw_discriminator(axes, stage, before)
    _note(axes, note)
  page.tight_layout(h_pad=1.2, w_pad=1.5)
  plots.save(path, page)
  return [
    ("Fig. 1 (b): sup |D - D*|", inner_off, "< 0.05"),
    ("Fig. 1 (c): % of z that rose on D", risen, "> 50"),
    ("Fig. 1 (d): sup |D - 1/2|", end_off, "< 0.05"),
  ]


def _draw_discriminator(
  axes, stage: gan_1d.Stage, before: gan_1d.Generator | None
) -> None:
  """Draws D, and D* or the generator `before` that D was trained against."""
  x = gan_1d.GRID
  if before is None:
    best = theory.optimal_discriminator(
      gan_1d.DATA.density(x), stage.g.density(x)
    )
    axes.plot(x, best, **BEST_STYLE, label="D* = $p_{data}/(p_{data}+p_g)$")
  else:
    density = before.density(x)
    axes.plot(x, density, color=GREEN, lw=0.8, alpha=0.6, label="$p_g$ of (b)")
  d = jax.nn.sigmoid(gan_1d.logits(stage.d, x))
  axes.plot(x, d, **D_STYLE, label="D" if before is None else "D of (b)")


def collapse(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """The Helvetica scenario (2014, sec. 6): G trained against a frozen D."""
  del seed
  start = gan_1d.Generator(3.0, 1.2)
  num_steps = 40 if quick else 400
  best = gan_1d.surest(start)
  g = gan_1d.train_generator(
    start, gan_1d.optimal_logits, start, num_steps, 0.03
  )
  page = plots.figure(1240, 960)
  for i, step in enumerate((0, num_steps // 40, num_steps // 4)):
    axes = page.add_subplot(2, 2, i + 1)
    title = f"{step} steps of G" if step else "D = D* of this G, then frozen"
    now = gan_1d.Generator(g.mean[step], g.scale[step])
    _draw_line(axes, title, now, low=0.4, high=6.6)
    x = gan_1d.GRID
    frozen = jax.nn.sigmoid(gan_1d.optimal_logits(start, x))
    axes.plot(x, frozen, **D_STYLE, label="D, frozen")
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


def _draw_line(
  axes, title: str, g: gan_1d.Generator, low: float, high: float
) -> None:
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
  arrow = {
    "arrowstyle": "-|>",
    "lw": 0.6,
    "color": plots.GREY,
    "mutation_scale": 5,
    "shrinkA": 0,
    "shrinkB": 0,
  }
  z = gan_1d.uniform(16)
  for z_i, x_i in zip(np.asarray(z), np.asarray(g(z)), strict=True):
    start = (low + 0.25 + (high - low - 0.7) * z_i, Z_LINE)
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
