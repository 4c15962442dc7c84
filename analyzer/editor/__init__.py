"""Help for those who write domains in an editor."""
