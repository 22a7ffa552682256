"""One module a workload; its function `build()` returns the Workload. Adding a module adds the workload."""
