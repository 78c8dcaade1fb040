"""Networks with all it takes to use them: the model file, other people's files in and out."""
