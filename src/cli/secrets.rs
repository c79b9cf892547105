//! New secrets of keys on their one way out.
//!
//! They are shown on standard output, or kept in a file that only its owner can read. The file is prepared before anything is
//! changed, because a secret that cannot be written then is lost.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file of lines `"tenant/key" = "rk-…"`, which is TOML.
pub(super) struct SecretsFile {
    path: PathBuf,
    /// What is written before it takes the place of what is there.
    part: PathBuf,
    kept: toml::Table,
}

impl SecretsFile {
    /// Makes sure that secrets can be written. What is in the file is kept.
    pub(super) fn prepare(path: &Path) -> Result<Self, String> {
        let wrong = |what: String| format!("--secrets {}: {what}", path.display());
        let kept = match std::fs::read_to_string(path) {
            Ok(text) => text.parse::<toml::Table>().map_err(|error| {
                wrong(format!("what is there was not written by this command ({}); name another file", error.message()))
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Table::new(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        match opened {
            Ok(_) => Ok(Self { path: path.to_owned(), part, kept }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let part = part.display();
                Err(wrong(format!(
                    "{part} is there: another run is writing, or did not end well; look at it, then delete it"
                )))
            }
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Adds secrets and puts the file in its place. Without any, the file stays as it is.
    pub(super) fn write(mut self, secrets: &[(String, String)]) -> Result<(), String> {
        if secrets.is_empty() {
            return Ok(());
        }
        let new = secrets.iter().map(|(key, secret)| (key.clone(), toml::Value::String(secret.clone())));
        self.kept.extend(new);
        let place = || {
            let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.part)?;
            file.write_all(self.kept.to_string().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&self.part, &self.path)
        };
        place().map_err(|error| format!("--secrets {}: {error}", self.path.display()))
    }
}

impl Drop for SecretsFile {
    fn drop(&mut self) {
        // It is not there after a rename. Otherwise nothing can be done about it, and the next run says that it is there.
        let _ = std::fs::remove_file(&self.part);
    }
}

/// The members `tenant`, `key` and `secret` of each.
pub(super) fn of_answer(answer: &Value) -> Vec<(String, String)> {
    let member = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let read = |row: &Value| {
        let key = format!("{}/{}", member(row, "tenant")?, member(row, "key")?);
        Some((key, member(row, "secret")?))
    };
    answer.get("secrets").and_then(Value::as_array).into_iter().flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_added_to_a_file_that_only_its_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.toml");
        let write = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(key, secret)| ((*key).to_owned(), (*secret).to_owned())).collect();
            SecretsFile::prepare(&path)?.write(&pairs)
        };
        write(&[("acme/app", "rk-1"), ("acme/b.c", "rk-2")]).unwrap();
        write(&[("acme/app", "rk-3")]).unwrap();
        write(&[]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "\"acme/app\" = \"rk-3\"\n\"acme/b.c\" = \"rk-2\"\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_could_not_take_them_is_refused_before_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.toml");
        std::fs::write(&path, "export A=b\n").unwrap();
        assert!(SecretsFile::prepare(&path).err().unwrap().contains("name another file"));
        let nowhere = folder.path().join("none/secrets.toml");
        assert!(SecretsFile::prepare(&nowhere).err().unwrap().contains("none/secrets.toml"));
        let path = folder.path().join("other.toml");
        let first = SecretsFile::prepare(&path).unwrap();
        assert!(SecretsFile::prepare(&path).err().unwrap().contains("another run"));
        drop(first);
        assert!(SecretsFile::prepare(&path).is_ok());
    }
}
