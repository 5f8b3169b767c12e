//! Black-box tests of a real process.
