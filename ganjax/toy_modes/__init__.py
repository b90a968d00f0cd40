"""Which objectives keep every mode of toy data: settings, runs, a page."""
