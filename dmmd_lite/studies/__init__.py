"""Studies: questions put to trained models, and the theory that answers some of them exactly."""
