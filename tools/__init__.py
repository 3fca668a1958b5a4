"""Tooling of the repository, apart from the product and from its tests: pages made from the code, and recordings."""
