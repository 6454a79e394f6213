"""From the name of an experiment to the ranks of its runs."""
