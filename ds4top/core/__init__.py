"""Pure core: values, parsing, reducing, figures. Standard library only; no clock, no I/O."""
