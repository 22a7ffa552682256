"""Figures: one function each, from a DataFrame to a Figure."""
