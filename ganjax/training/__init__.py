"""What moves a run from its first step to its last.

`train` builds what a config names; `feed` gives batches; `program` compiles the
steps; `loop` follows a run from step to step; `recorder` does what is due
between them; `population` and `lockstep` do all this for many seeds at once;
`faults` and `signals` are for what goes wrong, and for being stopped.
"""
