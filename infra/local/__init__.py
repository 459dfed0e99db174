"""The local cloud: runs what ships, on loopback, without Docker or an AWS account.

moto's server answers the AWS APIs; `resources` teaches its CloudFormation the types that it
lacks, `functions` runs the built zip under AWS's runtime client, `joints` carries events
between services, `athena` answers SQL. `cloud` puts them together.
"""
