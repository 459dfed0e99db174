"""The page over small and large fleets: how quick it is, and pictures of it."""
