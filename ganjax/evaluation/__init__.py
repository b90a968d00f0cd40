"""Judges of samples: metrics, features of images, and records of scores."""
