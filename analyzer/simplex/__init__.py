"""An exact simplex for piecewise-linear networks (Reluplex), over rational numbers."""
