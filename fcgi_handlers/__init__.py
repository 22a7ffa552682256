"""What runs behind lighttpd: one module a concurrency model, one module a workload."""
