"""`python -m benchmarks`: one table of Greenroom and its peers, measured in the same run."""
