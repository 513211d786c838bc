//! A disk in memory for tests, which fails when it is told to: in any write or sync, in the ways that disks and machines
//! do. What it holds outlives whoever has it open.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// What becomes of the writes since the last sync when a disk is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing is lost: the process was killed, or met an error, and the operating system goes on.
    Nothing,
    /// All of them are lost: the power went.
    All,
    /// Some of them are lost, as the seed says: the power went while the disk was at work, in whatever order it liked.
    Some(u64),
}

/// The disk. Cloning it gives another hand on the same one; [`Disk::copy`] makes another disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Shared>);

/// How many more writes and syncs succeed; one that is shared counts those of several disks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fuse(Arc<Mutex<Option<u64>>>);

#[derive(Debug, Default)]
struct Shared {
    fuse: Fuse,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What was there before each write since the last sync, the oldest first.
    undo: Vec<Undo>,
    /// Which plug is in: one that was pulled reaches the disk no more.
    plug: u64,
    /// Whether writers are to wait, and whether one does.
    is_held: bool,
    is_waited_for: bool,
    /// Whether syncs are claimed and not done.
    lies: bool,
}

#[derive(Debug)]
enum Undo {
    Wrote { offset: usize, before: Vec<u8> },
    Resized { length: usize, tail: Vec<u8> },
}

impl Fuse {
    /// Lets so many writes and syncs succeed, and no more.
    pub(crate) fn fail_after(&self, operations: u64) {
        *self.lock() = Some(operations);
    }

    /// Lets all succeed again.
    pub(crate) fn mend(&self) {
        *self.lock() = None;
    }

    /// Whether one has failed, or would fail now.
    pub(crate) fn fails(&self) -> bool {
        *self.lock() == Some(0)
    }

    /// Begins a write or a sync, if there is one left.
    pub(crate) fn begin(&self) -> io::Result<()> {
        match &mut *self.lock() {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// A disk that holds those bytes, and fails with others.
    pub(crate) fn holding(bytes: Vec<u8>, fuse: Fuse) -> Self {
        let state = Mutex::new(State { bytes, ..State::default() });
        Self(Arc::new(Shared { fuse, state, changed: Condvar::new() }))
    }

    /// Another disk with the same on it.
    pub(crate) fn copy(&self) -> Self {
        Self::holding(self.bytes(), Fuse::default())
    }

    /// What is on it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Makes it ready to be opened; whoever had it open has lost it.
    pub(crate) fn plug(&self) -> Plug {
        let mut state = self.lock();
        state.plug += 1;
        Plug { disk: self.clone(), number: state.plug }
    }

    /// Lets so many writes and syncs succeed, and no more.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.0.fuse.fail_after(operations);
    }

    /// Lets all succeed again.
    pub(crate) fn mend(&self) {
        self.0.fuse.mend();
    }

    /// Whether it has failed, or would fail now.
    pub(crate) fn fails(&self) -> bool {
        self.0.fuse.fails()
    }

    /// Ends it for whoever has it open, as a kill or a power cut does; whoever opens it then finds it well.
    pub(crate) fn pull(&self, loss: Loss) {
        self.mend();
        let mut state = self.lock();
        state.plug += 1;
        (state.is_held, state.lies) = (false, false);
        let undo = std::mem::take(&mut state.undo);
        let mut coin = fastrand::Rng::with_seed(if let Loss::Some(seed) = loss { seed } else { 0 });
        for undo in undo.into_iter().rev() {
            let is_lost = match loss {
                Loss::Nothing => false,
                Loss::All => true,
                Loss::Some(_) => coin.bool(),
            };
            if is_lost {
                state.revert(undo);
            }
        }
        self.0.changed.notify_all();
    }

    /// From now on writers wait, until they are released.
    pub(crate) fn hold(&self) {
        self.lock().is_held = true;
    }

    /// Whether a writer waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.lock().is_waited_for
    }

    /// Lets writers go on.
    pub(crate) fn release(&self) {
        self.lock().is_held = false;
        self.0.changed.notify_all();
    }

    /// From now on syncs are claimed and not done, or are done again.
    pub(crate) fn lie(&self, lies: bool) {
        self.lock().lies = lies;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn revert(&mut self, undo: Undo) {
        match undo {
            Undo::Wrote { offset, before } => {
                let end = (offset + before.len()).min(self.bytes.len());
                if offset < end {
                    self.bytes[offset..end].copy_from_slice(&before[..end - offset]);
                }
            }
            Undo::Resized { length, tail } => {
                self.bytes.truncate(length - tail.len());
                self.bytes.extend(tail);
                self.bytes.resize(length, 0);
            }
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let before = self.bytes[offset..offset + data.len()].to_vec();
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.undo.push(Undo::Wrote { offset, before });
    }
}

/// A disk as redb has it.
#[derive(Debug)]
pub(crate) struct Plug {
    disk: Disk,
    number: u64,
}

impl Plug {
    fn state(&self) -> Result<MutexGuard<'_, State>, io::Error> {
        let state = self.disk.lock();
        if state.plug == self.number { Ok(state) } else { Err(io::ErrorKind::NotConnected.into()) }
    }
}

impl StorageBackend for Plug {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state()?.bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let state = self.state()?;
        let bytes = state.bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut state = self.state()?;
        self.disk.0.fuse.begin()?;
        let length = state.bytes.len();
        let tail = state.bytes.get(len..).unwrap_or_default().to_vec();
        state.bytes.resize(len, 0);
        state.undo.push(Undo::Resized { length, tail });
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state()?;
        self.disk.0.fuse.begin()?;
        if !state.lies {
            state.undo.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.state()?;
        while state.is_held && state.plug == self.number {
            state.is_waited_for = true;
            self.disk.0.changed.notify_all();
            state = self.disk.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_waited_for = false;
        drop(state);
        let mut state = self.state()?;
        let begun = self.disk.0.fuse.begin();
        // Of the write that the disk fails in, half may have arrived.
        let arrived = if begun.is_err() { data.len() / 2 } else { data.len() };
        state.write(offset, &data[..arrived]);
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Disk, Plug) {
        let disk = Disk::default();
        let plug = disk.plug();
        plug.set_len(8).unwrap();
        plug.write(0, b"aaaaaaaa").unwrap();
        plug.sync_data().unwrap();
        (disk, plug)
    }

    fn read(plug: &Plug) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(plug.len().unwrap()).unwrap()];
        plug.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_a_kill_takes_nothing() {
        for (loss, left) in [(Loss::Nothing, &b"abbc"[..]), (Loss::All, b"aaaaaaaa")] {
            let (disk, plug) = disk();
            plug.write(1, b"bbb").unwrap();
            plug.set_len(4).unwrap();
            plug.write(3, b"c").unwrap();
            disk.pull(loss);
            assert!(plug.len().is_err(), "a plug that was pulled reaches it no more");
            assert_eq!(read(&disk.plug()), left);
        }
        let left: std::collections::BTreeSet<_> = (0..64)
            .map(|seed| {
                let (disk, plug) = disk();
                plug.write(0, b"b").unwrap();
                plug.write(1, b"c").unwrap();
                disk.pull(Loss::Some(seed));
                read(&disk.plug())[..2].to_vec()
            })
            .collect();
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [b"aa", b"ac", b"ba", b"bc"], "in any order");
    }

    #[test]
    fn it_fails_when_told_with_half_a_write_and_lies_when_told() {
        let (disk, plug) = disk();
        disk.fail_after(1);
        plug.write(0, b"bb").unwrap();
        assert!(plug.write(4, b"cccc").is_err() && plug.sync_data().is_err() && disk.fails());
        disk.mend();
        assert_eq!(read(&plug), b"bbaaccaa");
        disk.lie(true);
        plug.sync_data().unwrap();
        disk.pull(Loss::All);
        assert_eq!(read(&disk.plug()), b"aaaaaaaa");
    }
}
