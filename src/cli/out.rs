//! `print!` and `println!` for all commands. Whoever reads what is printed may stop reading, as `head` does: then the program ends
//! without a word, with the code that a shell gives a program that the signal SIGPIPE has ended.
//!
//! The macros have the names of those of the standard library, and hide them: those panic instead.

use std::fmt;
use std::io::{self, Write as _};

/// 128 and the number of SIGPIPE.
const NOBODY_READS: i32 = 141;

macro_rules! print {
    ($($text:tt)*) => {
        $crate::cli::out::write(format_args!($($text)*))
    };
}

macro_rules! println {
    () => {
        $crate::cli::out::line(format_args!(""))
    };
    ($($text:tt)*) => {
        $crate::cli::out::line(format_args!($($text)*))
    };
}

/// Writes to standard output.
pub(super) fn write(text: fmt::Arguments<'_>) {
    done(io::stdout().lock().write_fmt(text));
}

/// Writes a line to standard output.
pub(super) fn line(text: fmt::Arguments<'_>) {
    done(writeln!(io::stdout().lock(), "{text}"));
}

fn done(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(NOBODY_READS);
    }
    eprintln!("remora: standard output cannot be written: {error}");
    std::process::exit(1);
}
