//! The program: hands the command line to `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom::cli::main(std::env::args_os())
}
