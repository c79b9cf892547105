//! What commands print, when nobody reads it.

use std::process::{Command, Stdio};

#[test]
fn a_command_whose_output_nobody_reads_ends_without_a_word() {
    for arguments in [&["check"] as &[&str], &["check", "--print"], &["prices", "--help"]] {
        let (nobody, out) = std::io::pipe().unwrap();
        drop(nobody);
        let mut command = Command::new(env!("CARGO_BIN_EXE_remora"));
        let ran = command.args(arguments).env_clear().stdout(out).stderr(Stdio::piped()).spawn().unwrap();
        // Our end of the pipe goes with the command.
        drop(command);
        let ran = ran.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "", "{arguments:?}");
        let expected = if arguments.contains(&"--help") { 0 } else { 141 };
        assert_eq!(ran.status.code(), Some(expected), "{arguments:?}");
    }
}
