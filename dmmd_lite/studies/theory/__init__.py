"""What the book proves by enumeration and optimisation: limits, reverse kernels, single precision."""
