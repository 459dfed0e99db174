"""Commands that operate a deployed stage; they use the AWS APIs."""
