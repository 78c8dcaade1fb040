"""Studies of why residual networks train well, on trained networks: one file per study."""
