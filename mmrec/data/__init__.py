"""From a provider's files to sequences of items."""
