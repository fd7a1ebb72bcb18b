"""How fast, beside the libraries people use and the loops as published: `make bench` writes docs/benchmarks.md."""
