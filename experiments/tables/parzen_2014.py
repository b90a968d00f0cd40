"""Parzen log-likelihoods of the first GAN (Goodfellow et al. 2014, MNIST).

The second row averages G from epoch 30 on, as nobody did then; the third takes
the updates of the paper's algorithm 1 in place of those of the authors' code,
which has no such run. Not here: the Toronto Face Database (2057 ± 26), whose
data are not public and whose second stage starts from the first, see
`experiments/tfd_mlp.py`.
"""


def get_table(arg: str = "") -> dict:
  """Returns the table; it knows no argument."""
  column = "Parzen, paper"
  rows = [
    dict(
      label="adversarial nets",
      experiment="mnist_mlp",
      paper={column: "225 ± 2"},
    ),
    dict(label="the same, G averaged", experiment="mnist_mlp:averaged"),
    dict(
      label="adversarial nets, alternating updates with fresh noise",
      experiment="mnist_mlp",
      overrides={"system.simultaneous": False},
    ),
  ]
  table = dict(
    title="Parzen window log-likelihood on MNIST, nats",
    source="Goodfellow et al. 2014, arXiv 1406.2661, the table of Parzen "
    "estimates; the paper also has DBN 138 ± 2, Stacked CAE 121 ± 1.6 and "
    "Deep GSN 214 ± 1.1",
    seeds=(0, 1, 2),
    values=("parzen", "frechet"),
    paper={
      column: "arXiv 1406.2661; 10,000 samples, ± the standard error over "
      "test images of one run"
    },
    rows=rows,
  )
  return {"": table}[arg]
