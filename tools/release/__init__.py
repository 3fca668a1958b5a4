"""What a release consists of: two wheels, a bill of materials for each, and their checksums."""
