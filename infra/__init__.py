"""Templates of the pipeline, and the local cloud that runs them."""
