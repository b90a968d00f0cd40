"""A run on disk: its config, log, checkpoints, scores and pictures.

A workdir holds

- `config.json`, what was run, every default written out; `environment.json`,
  the versions, devices, commit and command of it;
- `metrics.jsonl`, a row for each log interval, and TensorBoard's events;
- `checkpoints/`, the states; `samples/` and `figures/`, pictures;
- `evaluations/`, a record for each score; `evaluation.json`, the closing table;
- `retries.json` and `faults/`, if anything went wrong.
"""
