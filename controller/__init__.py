"""From an experiment file to trials on hosts and a journal of their results."""
