"""Properties: what is to be shown of a network, exactly as it was asked."""
