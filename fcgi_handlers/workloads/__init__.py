"""One module a workload. Adding a module adds the workload.

`PARAMETERS` names its parameters by their units; `build()` takes them as whole numbers, each with a
default, and returns the Workload.
"""
