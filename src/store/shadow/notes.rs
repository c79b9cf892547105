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
        let (name, text) = (name.to_owned(), text.to_owned());
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            let stands = this.first.notes.note_once(&name, &text).await?;
            this.mirror_note(&name, Some(&stands));
            Ok(stands)
        })
    }

    fn set_note<'a>(&'a self, name: &'a str, text: Option<&'a str>) -> BoxFuture<'a, ()> {
        let (name, text) = (name.to_owned(), text.map(str::to_owned));
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            this.first.notes.set_note(&name, text.as_deref()).await?;
            this.mirror_note(&name, text.as_deref());
            Ok(())
        })
    }

    fn swap_note<'a>(&'a self, name: &'a str, old: &'a str, new: &'a str) -> BoxFuture<'a, bool> {
        let [name, old, new] = [name, old, new].map(str::to_owned);
        self.whole(|this| async move {
            let _order = this.entries.lock().await;
            let swapped = this.first.notes.swap_note(&name, &old, &new).await?;
            if swapped {
                this.mirror_note(&name, Some(&new));
            }
            Ok(swapped)
        })
    }

    fn notes_of<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Vec<(String, String)>> {
        self.first.notes.notes_of(prefix)
    }
}
