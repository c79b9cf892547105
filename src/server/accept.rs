//! What to do when `accept` fails: go on at once, or wait because the system is out of something.

use std::io;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses between failing calls of `accept`, doubling from 10 ms to 1 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// `accept` worked.
    pub(super) fn reset(&mut self) {
        self.last = None;
    }

    /// How long to wait after this error; `None` when it was the fault of one connection only.
    ///
    /// Everything else is taken to be a shortage (file descriptors, memory). No error ends the listener: a front
    /// door that gives up needs a restart, one that waits needs none.
    pub(super) fn pause(&mut self, error: &io::Error) -> Option<Duration> {
        let one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if one_connection {
            return None;
        }
        let pause = self.last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.last = Some(pause);
        Some(pause)
    }

    /// Whether the next shortage is the first of its series, so that it is logged once and not every time.
    pub(super) fn is_quiet(&self) -> bool {
        self.last.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_file_descriptors_is_waited_out_with_growing_pauses() {
        let mut backoff = Backoff::default();
        let emfile = io::Error::from_raw_os_error(24);
        assert!(backoff.is_quiet());
        let pauses: Vec<_> = (0..9).map(|_| backoff.pause(&emfile).unwrap().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(!backoff.is_quiet());
        backoff.reset();
        assert_eq!(backoff.pause(&emfile), Some(FIRST_PAUSE));
    }

    #[test]
    fn a_client_that_left_the_queue_is_no_reason_to_pause() {
        assert_eq!(Backoff::default().pause(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
