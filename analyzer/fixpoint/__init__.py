"""The fixpoint: facts under assumptions, and reducers that tighten them in turn."""
