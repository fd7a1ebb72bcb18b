"""More attribution methods, class activation maps at any layer, and the evaluation of maps."""
