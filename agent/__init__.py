"""What runs on a host during a trial. Standard library only, Python 3.9 or later."""

__version__ = "0.1.0"
