"""Certified training: any domain of the language as a loss."""
