"""Questions put to results and to trained models."""
