"""How fast the project is, measured beside its peers: `python -m benchmarks`, explained in docs/performance.md."""
