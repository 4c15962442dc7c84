"""The language of abstract domains, and the operators that it speaks of."""
