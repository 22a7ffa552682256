"""Load generators, one module each, behind one small interface.

A module has `command(order)`, the argument list that starts the tool, and `parse(output)`, what the tool
said.
"""
