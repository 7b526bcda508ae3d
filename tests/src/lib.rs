//! Nothing: this package is its test binary, and the program that it runs.
