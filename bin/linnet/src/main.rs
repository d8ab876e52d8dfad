//! The `linnet` binary.
fn main() {}
