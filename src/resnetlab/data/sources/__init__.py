"""Readers of data on disk or downloads into a `Dataset`: folders, CSV files, tar shards, arrays, CIFAR, digits."""
