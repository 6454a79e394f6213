"""Files and pictures from other people's servers."""
