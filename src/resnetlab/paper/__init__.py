"""What the paper prints: its tables and its curves. Numbers only; imports nothing of ours."""
