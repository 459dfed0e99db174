"""Two weeks of recorded traces replayed as a fleet, and every alarm held against them."""
