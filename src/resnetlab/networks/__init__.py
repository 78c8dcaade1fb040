"""What is trained: the networks of the paper, and what they cost."""
