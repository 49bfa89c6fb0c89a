"""The HTTP service. `openapi.yaml` is the contract; the code here keeps it."""
