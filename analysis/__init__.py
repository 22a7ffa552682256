"""From a run's journal to statistics, figures and a report."""
