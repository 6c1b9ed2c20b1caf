//! tests

mod fuzz;
