"""Which objectives keep every mode of toy data: a page of a table's runs."""
