//! Who wants to hear of what is committed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::tables::News;
use crate::domain::SessionId;

/// The watched sessions, and the queue of revocations. A session's watcher costs one entry, and no work until it changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    sessions: Arc<Mutex<Watched>>,
    revocations: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Watched {
    sessions: HashMap<SessionId, watch::Sender<()>>,
    /// At how many entries those whose watchers have gone are looked for: at twice as many as stayed the last time, so that
    /// looking costs a new watcher the same however many there are.
    tidy_at: usize,
}

impl Watches {
    /// Hears of each change of a session that is committed from now on; changes that follow quickly may be heard as one.
    pub(super) fn subscribe(&self, id: SessionId) -> watch::Receiver<()> {
        let mut watched = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.sessions.len() >= watched.tidy_at {
            watched.sessions.retain(|_, changes| !changes.is_closed());
            watched.tidy_at = 2 * watched.sessions.len().max(32);
        }
        watched.sessions.entry(id).or_default().subscribe()
    }

    /// Hears of each token that joins the queue of revocations from now on; several may be heard as one.
    pub(super) fn subscribe_to_revocations(&self) -> watch::Receiver<()> {
        self.revocations.subscribe()
    }

    /// Tells of a committed change.
    pub(super) fn tell(&self, news: News) {
        match news {
            News::Session(id) => {
                let watched = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(changes) = watched.sessions.get(&id) {
                    changes.send_replace(());
                }
            }
            News::Revocation => self.revocations.send_replace(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_that_have_gone_take_no_room() {
        let watches = Watches::default();
        let kept: Vec<_> = (0..10).map(|n| watches.subscribe(SessionId::from_bytes([n; 16]))).collect();
        for n in 10..250 {
            drop(watches.subscribe(SessionId::from_bytes([n; 16])));
        }
        assert!(watches.sessions.lock().unwrap().sessions.len() < 100);
        watches.tell(News::Session(SessionId::from_bytes([3; 16])));
        let told: Vec<_> = kept.iter().map(|changes| changes.has_changed().unwrap()).collect();
        assert_eq!(told.iter().position(|told| *told), Some(3));
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
    }
}
