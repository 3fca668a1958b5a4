"""SQL of the runtime, by name."""
