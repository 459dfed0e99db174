"""CloudFormation: resource types that moto lacks or supports only in part."""
