"""Lambda's API as botocore's service model describes it: requests in, values, answers out."""
