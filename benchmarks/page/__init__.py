"""Load times of the page for small and large fleets, and its sample data."""
