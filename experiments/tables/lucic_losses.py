"""Losses with one network on MNIST, after "Are GANs Created Equal?".

Lucic et al. 2018 (https://arxiv.org/abs/1711.10337) compare the best of many
random settings of each loss; here each has one setting of `mnist_dcgan`, with
the numbers of its own paper where they belong to the method. Their FIDs are of
other networks and known to us from memory alone, so none stands here. Not
here, either: BEGAN, which ganjax does not have, and VAE, whose networks
differ (`mnist_vae`).
"""

FIVE = {"d_steps_per_g_step": 5}
RMSPROP = {
  f"{player}.{key}": value
  for player in ("g_opt", "d_opt")
  for key, value in (("name", "rmsprop"), ("learning_rate", 5e-5))
}
ROWS = {
  "MM GAN": {"loss.name": "minimax"},
  "NS GAN": {},
  "LSGAN": {"loss.name": "least_squares"},
  "WGAN": {"loss.name": "wasserstein", "d_opt.clip_weights": 0.01}
  | FIVE
  | RMSPROP,
  "WGAN GP": {
    "loss.name": "wasserstein",
    "penalties.gradient_penalty.weight": 10.0,
  }
  | FIVE,
  "DRAGAN": {"penalties.dragan.weight": 10.0},
}


def get_table(arg: str = "") -> dict:
  """Returns the table; it knows no argument."""
  rows = [
    dict(label=label, experiment="mnist_dcgan", overrides=overrides)
    for label, overrides in ROWS.items()
  ]
  table = dict(
    title="Losses with one network on MNIST",
    source="Lucic et al. 2018, arXiv 1711.10337, without its search of "
    "settings",
    seeds=(0, 1, 2),
    values=("frechet", "classes_covered"),
    rows=rows,
  )
  return {"": table}[arg]
