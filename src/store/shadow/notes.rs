//! Notes of the first store. Those about data keys go to the second store too, or what is sealed there could not be opened,
//! and what was shredded could; and those that say whose REM data was deleted, or it would be filled again there.

use super::super::rem::{FORGOTTEN_KEY_NOTES, FORGOTTEN_NOTES};
use super::super::sealed::KEY_NOTES;
use super::super::{BoxFuture, NoteStore};
use super::Shadow;
use super::mirror::Work;

impl Shadow {
    fn mirror_note(&self, name: &str, text: Option<&str>) {
        if [KEY_NOTES, FORGOTTEN_NOTES, FORGOTTEN_KEY_NOTES].iter().any(|prefix| name.starts_with(prefix)) {
            self.mirror(Work::Note(name.to_owned(), text.map(str::to_owned)));
        }
    }
}

impl NoteStore for Shadow {
    fn note<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<String>> {
        self.first.notes.note(name)
    }

    fn note_once<'a>(&'a self, name: &'a str, text: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move {
            let _order = self.entries.lock().await;
            let stands = self.first.notes.note_once(name, text).await?;
            self.mirror_note(name, Some(&stands));
            Ok(stands)
        })
    }

    fn set_note<'a>(&'a self, name: &'a str, text: Option<&'a str>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let _order = self.entries.lock().await;
            self.first.notes.set_note(name, text).await?;
            self.mirror_note(name, text);
            Ok(())
        })
    }

    fn swap_note<'a>(&'a self, name: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let _order = self.entries.lock().await;
            let swapped = self.first.notes.swap_note(name, old, new).await?;
            if swapped {
                self.mirror_note(name, Some(new));
            }
            Ok(swapped)
        })
    }

    fn notes_of<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Vec<(String, String)>> {
        self.first.notes.notes_of(prefix)
    }
}
