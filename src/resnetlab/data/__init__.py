"""What networks are trained on and tested on: one `Dataset`, resident in memory or read from files."""
