"""One module a concurrency model; its `MODEL` says what it promises. Adding a module adds the model."""
