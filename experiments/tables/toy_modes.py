"""Which objectives keep every mode of the ring and the grid.

Settings of ours; no paper has this table. 84 short runs, for a few cores, then
a page that also draws the samples. `smoke` is four tiny runs.

    ganjax sweep toy_modes --jobs 2 --out runs/toy_modes
    python results/toy_modes.py runs/toy_modes --out results
"""

R1, R2 = ({f"penalties.{name}.gamma": 0.1} for name in ("r1", "r2"))
HINGE = {"loss.name": "hinge"}
PAIRING = {"loss.relativism": "pairing"}
# All settings share the experiments' nets, optimizers and steps but those of
# Wasserstein. Five critic steps for one of G are part of that method, and so,
# without a penalty, are RMSProp and clipping (Arjovsky et al. 2017, algorithm
# 1); their rate of 5e-5 and limit of 0.01 are ten times larger here, where
# steps are few. The weight 0.1 of the gradient penalty is that of the authors'
# code for toy data (Gulrajani et al. 2017).
WASSERSTEIN = {"loss.name": "wasserstein", "d_steps_per_g_step": 5}
CLIPPED = {"d_opt.clip_weights": 0.1} | {
  f"{player}.{key}": value
  for player in ("g_opt", "d_opt")
  for key, value in (("name", "rmsprop"), ("learning_rate", 5e-4))
}
SETTINGS = {
  "minimax": {"loss.name": "minimax"},
  "non-saturating": {},
  "non-saturating + mode seeking": {"penalties.mode_seeking.weight": 0.1},
  "non-saturating + R1": R1,
  "non-saturating + R1 + R2": R1 | R2,
  "least squares": {"loss.name": "least_squares"},
  "hinge": HINGE,
  "hinge + R1": HINGE | R1,
  "Wasserstein, clipped": WASSERSTEIN | CLIPPED,
  "Wasserstein + GP": WASSERSTEIN | {"penalties.gradient_penalty.weight": 0.1},
  "pairing": PAIRING,
  "pairing + R1": PAIRING | R1,
  "pairing + R1 + R2": PAIRING | R1 | R2,
  "average": {"loss.relativism": "average"},
}


def get_table(arg: str = "") -> dict:
  """Returns the table; `smoke` is two settings of tiny runs, one seed each."""
  smoke = ("non-saturating", "pairing + R1 + R2")
  titles, seeds = {"": (SETTINGS, 3), "smoke": (smoke, 1)}[arg]
  return dict(
    title="Which objectives keep every mode of toy data",
    source="Settings of ours, see results/toy_modes.md",
    seeds=tuple(range(seeds)),
    values=("modes_covered", "high_quality", "mode_kl"),
    rows=[
      dict(
        label=f"{kind}: {title}",
        experiment=f"toy_{kind}{':smoke' if arg else ''}",
        overrides=SETTINGS[title],
      )
      for kind in ("ring", "grid")
      for title in titles
    ],
  )
