//! Who wants to hear of what is committed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::domain::{ClientName, SessionId};

/// What can be watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A session.
    Session(SessionId),
    /// A client's inbox.
    Inbox(ClientName),
    /// The queue of tokens to be revoked.
    Revocations,
}

/// What is watched. A watcher costs one entry, and no work until its subject changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    subjects: HashMap<Subject, watch::Sender<()>>,
    /// At how many entries those whose watchers have gone are looked for: at twice as many as stayed the last time, so that
    /// looking costs a new watcher the same however many there are.
    tidy_at: usize,
}

impl Watches {
    /// Hears of each change of a subject that is committed from now on; changes that follow quickly may be heard as one.
    pub(super) fn subscribe(&self, subject: Subject) -> watch::Receiver<()> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.subjects.len() >= watched.tidy_at {
            watched.subjects.retain(|_, changes| !changes.is_closed());
            watched.tidy_at = 2 * watched.subjects.len().max(32);
        }
        watched.subjects.entry(subject).or_default().subscribe()
    }

    /// Tells of a committed change.
    pub(super) fn tell(&self, subject: &Subject) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changes) = watched.subjects.get(subject) {
            changes.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_that_have_gone_take_no_room() {
        let watches = Watches::default();
        let session = |n| Subject::Session(SessionId::from_bytes([n; 16]));
        let kept: Vec<_> = (0..10).map(|n| watches.subscribe(session(n))).collect();
        for n in 10..250 {
            drop(watches.subscribe(session(n)));
        }
        assert!(watches.0.lock().unwrap().subjects.len() < 100);
        watches.tell(&session(3));
        let told: Vec<_> = kept.iter().map(|changes| changes.has_changed().unwrap()).collect();
        assert_eq!(told.iter().position(|told| *told), Some(3));
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
    }
}
