"""The guards of the protocol in the implementation, each by its shortest counterexample, on real servers."""
