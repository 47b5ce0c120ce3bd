"""Groups of a command's settings: each field is a flag, a key of run.yaml and an argument from Python, told of once."""
