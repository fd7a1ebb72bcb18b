"""Beyond the assignment: more ways to explain a network, feature visualization, and the painter."""
