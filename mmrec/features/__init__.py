"""Features of items: one matrix a modality, from pictures, texts or categories."""


class FeatureError(RuntimeError):
    """Features cannot be computed or read; the message is one line for a person."""
