"""Structure and cost of the networks, computed and measured without training."""
