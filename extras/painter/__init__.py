"""The multi-scale painter: losses, schedule, optimization, its options and figures."""
