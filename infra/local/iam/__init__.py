"""IAM: evaluation of every request of a role against the role's deployed policies."""
