"""Many instances, each in a process of its own: read, run, kept, summed up."""
