"""Pictures of the theorems and of the Dirac-GAN.

A figure is a function `(path, seed, quick) -> rows`, a row being what was
measured, its value, and what the theory expects of it, as text.
"""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.objectives import losses
from ganjax.runs import plots
from ganjax.tools import theory
from ganjax.tools.theory import games

Rows = list[tuple[str, float, str]]

GREEN, PURPLE = "#009E73", "#CC79A7"  # Okabe and Ito, as in `plots`.
SMALL = 7
LOG4 = math.log(4)


def saturation(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """What each generator loss says of a fake, and how loudly (2014, sec. 3)."""
  del seed, quick
  looks = {
    "minimax": (plots.ORANGE, "-"),
    "non_saturating": (plots.BLUE, "-"),
    "least_squares": (GREEN, "--"),
    "hinge": (PURPLE, "-."),
  }
  a = jnp.linspace(-10.0, 4.0, 281)
  page = plots.figure(1380, 500)
  panels = [page.add_subplot(1, 3, i + 1) for i in range(3)]
  slopes = {}
  for name, (colour, dashes) in looks.items():
    loss = losses.get(name).generator
    one = lambda a, loss=loss: loss(a[None], a[None])
    slopes[name] = jax.vmap(jax.grad(one))
    line = {"color": colour, "ls": dashes, "lw": 1.5, "label": name}
    panels[0].plot(a, jax.vmap(one)(a), **line)
    panels[1].plot(a, -slopes[name](a), **line)
  odds = lambda a: slopes["non_saturating"](a) / slopes["minimax"](a)
  panels[2].semilogy(a, odds(a), color="black", lw=1.5)
  rows: Rows = []
  for d, text in (0.1, "9"), (0.01, "99"), (1e-4, "9,999"):
    logit = jnp.array([math.log(d / (1 - d))])
    rows.append((f"Gradient ratio at D = {d:g}", float(odds(logit)[0]), text))
    panels[2].plot(logit, odds(logit), "o", color=plots.BLUE, ms=4)
    panels[2].annotate(
      text, (logit[0], odds(logit)[0]), (6, 2), fontsize=8, color=plots.BLUE,
      textcoords="offset points",
    )  # fmt: skip
  titles = (
    "Loss of G",
    "Push on the logit, −dLoss / dlogit",
    "non_saturating / minimax = (1 − D) / D",
  )
  for axes, title in zip(panels, titles, strict=True):
    plots.style(axes, title)
    marks = 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9
    axes.set_xticks(
      [math.log(d / (1 - d)) for d in marks], [f"{d:.6g}" for d in marks]
    )
    axes.set_xlabel("D(G(z)) = sigmoid(logit)", fontsize=8)
  panels[0].set_ylim(-4.5, 12)
  panels[1].set_ylim(-2.2, 5)
  panels[0].legend(frameon=False, fontsize=SMALL + 0.5)
  page.tight_layout(w_pad=1.5)
  plots.save(path, page)
  return rows


def criterion(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Theorem 1 on random histograms, and Prop. 2's way to the minimum."""
  rng = np.random.default_rng(seed)
  num_pairs, num_steps = (20, 50) if quick else (300, 1000)
  with games.float64():
    # Low concentrations make spikes that hardly meet, high ones flat bins.
    levels = 10 ** rng.uniform(-2.5, 2, num_pairs)
    both = np.array([rng.dirichlet(np.full(20, c), 2) for c in levels])
    jsd = np.asarray(jax.vmap(theory.jensen_shannon)(*both.swapaxes(0, 1)))
    c = np.asarray(jax.vmap(theory.virtual_criterion)(*both.swapaxes(0, 1)))
    p, q = rng.dirichlet(np.full(40, 2.0), 2)
    d = games.fit_discriminator(p, q, 50 if quick else 5000)
    best = theory.optimal_discriminator(p, q)
    trajectory = games.multiplicative_weights(p, q, num_steps)
    distance = lambda x: theory.jensen_shannon(p, x)
    descent = np.asarray(jax.vmap(distance)(trajectory))
    critic = games.fit_pairing(p, q, 50 if quick else 5000)
    paired = float(games.pairing_value(critic, p, q) + math.log(2))
    joint = float(theory.jensen_shannon(*games.pairs(p, q)))
    prop_1 = float(jnp.abs(d - best).max())
  page = plots.figure(1120, 520)
  left, right = (page.add_subplot(1, 2, i) for i in (1, 2))
  plots.style(left, f"Theorem 1: {num_pairs} random pairs of histograms")
  ends = np.array([0, math.log(2)])
  left.plot(ends, -LOG4 + 2 * ends, color=plots.GREY, lw=1)
  left.plot(jsd, c, "o", ms=3, color=plots.BLUE, alpha=0.5, mew=0)
  left.plot(ends, -LOG4 + 2 * ends, "o", ms=5, color=plots.ORANGE)
  for x, y, side, text in (
    (0.045, -LOG4, "left", "$p_g = p_{data}$: −log 4"),
    (0.645, 0, "right", "disjoint: 0"),
    (0.385, -0.7, "left", "C(G) = −log 4 + 2 JSD"),
  ):
    label = left.text(x, y, text, ha=side, va="center", fontsize=8)
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
  left.set_xlabel("JSD($p_{data}$, $p_g$), nats", fontsize=8)
  left.set_ylabel("C(G) = max V(D, G) over D, nats", fontsize=8)
  plots.style(right, "Proposition 2: $p_g$ moved against an optimal D")
  # Below it the sum's rounding would be drawn, not the distance.
  falls = np.argmax(np.append(descent, 0) < 1e-15)
  right.semilogy(descent[:falls], color=plots.BLUE, lw=1.5)
  right.axhline(1e-16, color=plots.GREY, lw=0.8, ls="--")
  right.text(0, 1.6e-16, "rounding in float64", fontsize=8, color=plots.GREY)
  right.set_xlabel("Step of $p_g$ ← $p_g$ exp(−0.1 ∂C/∂$p_g$) / Z", fontsize=8)
  right.set_ylabel("JSD($p_{data}$, $p_g$), nats", fontsize=8)
  page.tight_layout(w_pad=2)
  plots.save(path, page)
  last = abs(float(descent[-1]))
  gap = float(np.abs(c + LOG4 - 2 * jsd).max())
  return [
    ("Prop. 1: max |D - D*|", prop_1, "< 1e-6"),
    ("Thm. 1: max |C + log 4 - 2 JSD|", gap, "< 1e-12"),
    (
      f"Prop. 2: JSD after {num_steps} steps",
      last,
      "< 1e-15",
    ),
    ("Pairing: |sup + log 2 - JSD|", abs(paired - joint), "< 1e-12"),
  ]


def dirac(path: pathlib.Path, seed: int, quick: bool) -> Rows:
  """Orbits of the Dirac-GAN: what R1 and R2 are for."""
  del seed
  panels = [
    ("No penalty", 0.0, 0.0),
    ("R1, γ = 0.3", 0.3, 0.0),
    ("R2, γ = 0.3: as R1, D being linear", 0.0, 0.3),
    ("Both, γ = 0.5 each: critical", 0.5, 0.5),
  ]
  page = plots.figure(1560, 500)
  rows: Rows = []
  steps, size = (20 if quick else 90), 1.7
  mesh = np.linspace(-size, size, 13)
  points = np.stack(np.meshgrid(mesh, mesh), -1).reshape(-1, 2)
  field = jax.jit(jax.vmap(games.dirac_field, (0, None, None)))
  for i, (title, gamma1, gamma2) in enumerate(panels):
    game = {"gamma1": gamma1, "gamma2": gamma2}
    axes = page.add_subplot(1, 4, i + 1)
    roots = games.dirac_eigenvalues(**game)
    plots.style(axes, f"{title}\nλ = {_roots(roots)}")
    axes.grid(False)
    arrows = field(points, gamma1, gamma2)
    # Square roots, to show the direction of the slow ones too.
    arrows /= jnp.sqrt(jnp.linalg.norm(arrows, axis=1) + 1e-9)[:, None]
    axes.quiver(*points.T, *arrows.T, color="#cccccc", width=0.004, scale=18)
    flow = games.dirac_orbit([1.0, 0.0], 10 * steps, 0.02, **game)
    euler = games.dirac_orbit([1.0, 0.0], steps, 0.2, "euler", **game)
    look = {"color": plots.ORANGE, "lw": 0.7, "ms": 2.2, "marker": "o"}
    axes.plot(*euler.T, **look, label="gradient steps of 0.2")
    axes.plot(*flow.T, color=plots.BLUE, lw=1.6, label="continuous time")
    axes.plot(1, 0, "o", color="black", ms=4)
    axes.plot(0, 0, "+", color="black", ms=7)
    axes.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.set_xlabel("θ: where G's sample is", fontsize=8)
    if i == 0:
      axes.set_ylabel("ψ: the slope of D", fontsize=8)
      drift = float(jnp.abs((flow**2).sum(1) - 1).max())
      rows.append(("Dirac: drift of θ² + ψ², no penalty", drift, "< 1e-4"))
      growth = float((euler[-1] ** 2).sum())
      rows.append(("Dirac: θ² + ψ² after Euler's steps", growth, "> 1"))
      rows.append(
        ("Dirac: Im λ, no penalty", float(np.imag(roots).max()), "0.5")
      )
    if i == 3:
      root = np.real(roots).max()
      rows.append(("Dirac: Re λ at γ₁ + γ₂ = 1", root, "-0.5, twice"))
  handles, names = page.axes[0].get_legend_handles_labels()
  page.tight_layout(rect=(0, 0.07, 1, 1), w_pad=1.2)
  page.legend(
    handles, names, loc="lower center", ncols=2, frameon=False, fontsize=8
  )
  plots.save(path, page)
  return rows


def _roots(roots: np.ndarray) -> str:
  """Writes a conjugate pair, or two real roots, with two digits."""
  real, imaginary = np.real(roots), np.abs(np.imag(roots)).max()
  middle = f"{real.mean():.2f}"
  if imaginary < 5e-3:  # A double root is real only to the root of epsilon.
    text = f"{middle} twice" if np.ptp(real) < 5e-3 else f"{real}"
  else:
    text = f"{'' if middle in ('0.00', '-0.00') else middle + ' '}±"
    text += f"{'' if text == '±' else ' '}{imaginary:.2f} i"
  return text.replace("-", "−")
