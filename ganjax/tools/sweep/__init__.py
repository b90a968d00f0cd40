"""Tables of runs: settings x seeds, on one machine or on a cluster."""
