"""EC2: fast DescribeInstances for thousands of instances."""
