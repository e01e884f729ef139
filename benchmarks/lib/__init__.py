"""Code shared by the benchmark scripts: data, methods, child processes, timing and results."""
