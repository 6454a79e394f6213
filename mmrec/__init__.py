"""Multimodal attention for sequential recommendation: a replication of arXiv 2405.17959."""
