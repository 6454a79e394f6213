"""Pictures, words and categories turned into one matrix a modality, each row an item."""


class FeatureError(RuntimeError):
    """Features cannot be computed or read; the message is one line for a person."""
