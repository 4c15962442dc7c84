"""What each operation becomes in the graph, whatever file format it was read from."""
