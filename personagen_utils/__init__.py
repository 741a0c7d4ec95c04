"""What the PersonaGen notebooks call: one module per stage or evaluation question."""

__version__ = "0.1.0"
