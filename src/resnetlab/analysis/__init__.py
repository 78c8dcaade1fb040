"""What the networks are made of and what they cost, computed and measured; nothing is trained for it."""
