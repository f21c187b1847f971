"""What every room uses and what knows nothing of diffusion: random numbers, files, records, signals."""
