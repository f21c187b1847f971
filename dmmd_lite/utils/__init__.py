"""Helpers that all rooms use and that know nothing of diffusion: random numbers, files, records, signals."""
