//! The `remora` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    remora::cli::run()
}
