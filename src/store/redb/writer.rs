//! The one writer: a thread that owns write transactions, applies all operations that wait in one of them, commits once,
//! and answers all.
//!
//! A failed commit has an unknown outcome, so it latches: no writes any more until the store is opened again, and the
//! reason is kept. So does a page that is not what was written, where a commit comes upon it.

use std::{
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use redb::StorageError;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    super::{StoreError, metrics::StoreMetrics},
    current::Current,
    sound::{is_damage, soundly},
    tables::{OperationError, Outcome, Tables},
    touched::Touched,
    watches::{Subject, Watches},
};

/// Most operations in one transaction; what waits beyond them goes into the next.
const MAX_BATCH: usize = 1024;
/// From one commit to the next while the database is looked at for long: what a commit replaces, and what it writes to be
/// opened quickly after a crash, keeps its room then.
const PACE: Duration = Duration::from_millis(10);
/// Most operations that wait.
const QUEUE: usize = 8192;

/// Sends an answer once the batch is durable. Dropped instead, it makes the waiting call see that it failed.
type Answer = Box<dyn FnOnce() + Send>;
/// Applies an operation to the batch's transaction: its answer, and whether it changed anything.
type Job = Box<dyn FnOnce(&mut Tables<'_>) -> Result<(Answer, bool), StorageError> + Send>;
/// Works on the database itself, between two transactions.
type Interlude = Box<dyn FnOnce(&mut Desk) -> Result<Answer, redb::Error> + Send>;

/// What the thread is asked to do.
enum Work {
    Job(Job),
    Interlude(Interlude),
}

/// What the thread has before it.
pub(super) struct Desk {
    pub(super) database: Arc<Current>,
    /// Where what is written is noted, while a copy of the database is made.
    pub(super) touched: Option<Touched>,
}

/// Why the store takes no writes any more; set once.
#[derive(Clone, Debug, Default)]
pub(super) struct Latch(Arc<OnceLock<Failure>>);

/// What ended the writer.
#[derive(Debug)]
struct Failure {
    reason: String,
    is_damage: bool,
}

impl Latch {
    pub(super) fn reason(&self) -> Option<&str> {
        self.0.get().map(|failure| failure.reason.as_str())
    }

    /// Whether it is the file that is not what was written, and not the disk that does not write.
    pub(super) fn is_damage(&self) -> bool {
        self.0.get().is_some_and(|failure| failure.is_damage)
    }

    fn close(&self, error: &redb::Error) {
        let failure = Failure { reason: error.to_string(), is_damage: is_damage(error) };
        tracing::error!(
            reason = failure.reason,
            "the store takes no more writes; the daemon ends by itself, to be started anew"
        );
        // Only the first failure counts: what follows is its consequence.
        let _ = self.0.set(failure);
    }

    fn error(&self) -> StoreError {
        StoreError::Unavailable(self.reason().unwrap_or("the writer has stopped").to_owned())
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// None only while it is being dropped.
    jobs: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
    latch: Latch,
    watches: Watches,
    metrics: StoreMetrics,
    /// Closes when the thread ends, however it ends.
    alive: watch::Receiver<()>,
}

impl Writer {
    /// Starts the thread. Dropping the writer waits until what is queued is done and the thread has let the file go.
    pub(super) fn start(database: Arc<Current>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (living, alive) = watch::channel(());
        let latch = Latch::default();
        let metrics = StoreMetrics::default();
        let (latch_of_thread, metrics_of_thread) = (latch.clone(), metrics.clone());
        let runtime = Handle::try_current().ok();
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || {
            let _living = living;
            let desk = Desk { database, touched: None };
            run(desk, queue, &latch_of_thread, &metrics_of_thread, runtime.as_ref());
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            latch,
            watches: Watches::default(),
            metrics,
            alive,
        })
    }

    pub(super) fn latch(&self) -> &Latch {
        &self.latch
    }

    pub(super) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// How many operations wait.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.as_ref().map_or(0, |jobs| jobs.max_capacity().saturating_sub(jobs.capacity()))
    }

    /// Hears of each committed change of a subject.
    pub(super) fn subscribe(&self, subject: Subject) -> watch::Receiver<()> {
        self.watches.subscribe(subject)
    }

    /// Resolves when the thread has ended.
    pub(super) async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// New work: refused when the queue is full.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Tables<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = self.package(operation);
        match self.queue()?.try_send(Work::Job(job)) {
            Ok(()) => self.wait(answer).await,
            Err(mpsc::error::TrySendError::Full(_)) => Err(StoreError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(self.latch.error()),
        }
    }

    /// The end of work that has begun: waits for its place however long the queue is.
    pub(super) async fn write_surely<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Tables<'_>) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = self.package(operation);
        self.queue()?.send(Work::Job(job)).await.map_err(|_| self.latch.error())?;
        self.wait(answer).await
    }

    /// Work on the database itself, between two transactions: everybody who writes waits for it. An error latches.
    pub(super) async fn between<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = oneshot::channel();
        let interlude: Interlude = Box::new(move |desk| {
            let done = work(desk)?;
            Ok(Box::new(move || drop(sender.send(Ok(done)))))
        });
        self.queue()?.send(Work::Interlude(interlude)).await.map_err(|_| self.latch.error())?;
        self.wait(answer).await
    }

    /// An operation as the thread takes it, and where its answer arrives.
    fn package<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Tables<'_>) -> Outcome<T> + Send + 'static,
    ) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
        let (sender, receiver) = oneshot::channel();
        let watches = self.watches.clone();
        let job: Job = Box::new(move |tables| {
            let (result, changes) = match operation(tables) {
                Ok((value, changes)) => (Ok(value), changes),
                Err(OperationError::Refused(error)) => (Err(error), Vec::new()),
                Err(OperationError::Database(error)) => return Err(error),
            };
            let is_change = !changes.is_empty();
            let mut news = Vec::new();
            for change in changes {
                news.extend(change.subject());
                tables.apply(change)?;
            }
            let answer: Answer = Box::new(move || {
                news.iter().for_each(|subject| watches.tell(subject));
                // Whoever asked may have gone meanwhile; the fact stands all the same.
                let _ = sender.send(result);
            });
            Ok((answer, is_change))
        });
        (job, receiver)
    }

    /// The queue, while the store takes writes.
    fn queue(&self) -> Result<&mpsc::Sender<Work>, StoreError> {
        self.jobs.as_ref().filter(|_| self.latch.reason().is_none()).ok_or_else(|| self.latch.error())
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
        answer.await.unwrap_or_else(|_| Err(self.latch.error()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has shown itself already.
            let _ = thread.join();
        }
    }
}

fn run(
    mut desk: Desk,
    mut queue: mpsc::Receiver<Work>,
    latch: &Latch,
    metrics: &StoreMetrics,
    runtime: Option<&Handle>,
) {
    let (mut next, mut paced) = (None, Instant::now());
    while let Some(work) = next.take().or_else(|| queue.blocking_recv()) {
        if desk.database.is_pinned() {
            // What comes meanwhile shares the commit.
            thread::sleep(paced.saturating_duration_since(Instant::now()));
            paced = Instant::now() + PACE;
        }
        let done = soundly(|| match work {
            Work::Job(first) => commit_batch(&mut desk, first, &mut queue, metrics).map(|(answers, left)| {
                next = left;
                answers
            }),
            Work::Interlude(interlude) => interlude(&mut desk).map(|answer| vec![answer]),
        });
        match done.unwrap_or_else(|what| Err(redb::Error::Corrupted(what))) {
            Ok(answers) => match runtime.filter(|_| answers.len() > 1) {
                // Waking its tasks one by one from this thread would interrupt the runtime for each.
                Some(runtime) => drop(runtime.spawn(async { answer_all(answers) })),
                None => answer_all(answers),
            },
            Err(error) => {
                latch.close(&error);
                break;
            }
        }
    }
    // What waits is answered by being dropped, what comes in this moment too: left to the queue's own end, work that was given
    // its place before and put there after it would stay, and who waits for its answer would wait for ever.
    queue.close();
    while queue.blocking_recv().is_some() {}
    // The thread ends: a process whose store takes no writes is better started anew, which opens the store again.
}

fn answer_all(answers: Vec<Answer>) {
    answers.into_iter().for_each(|answer| answer());
}

/// Applies what waits, up to an interlude, which is handed back.
fn commit_batch(
    desk: &mut Desk,
    first: Job,
    queue: &mut mpsc::Receiver<Work>,
    metrics: &StoreMetrics,
) -> Result<(Vec<Answer>, Option<Work>), redb::Error> {
    let mut transaction = desk.database.get().begin_write()?;
    // Writes the allocator's state with each commit, so that opening after a crash needs no scan of the file.
    transaction.set_quick_repair(true);
    let (mut answers, mut left) = (Vec::new(), None);
    let mut transitions = None;
    {
        let mut is_changed = false;
        let mut tables = Tables::open(&transaction)?;
        tables.touched = desk.touched.take();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            let (answer, is_change) = job(&mut tables)?;
            answers.push(answer);
            is_changed |= is_change;
            if answers.len() < MAX_BATCH {
                match queue.try_recv() {
                    Ok(Work::Job(job)) => next = Some(job),
                    Ok(interlude @ Work::Interlude(_)) => left = Some(interlude),
                    Err(_) => {}
                }
            }
        }
        if is_changed {
            transitions = Some(tables.finish()?);
        }
        desk.touched = tables.touched.take();
    }
    // A batch of refusals needs no commit.
    match transitions {
        Some(transitions) => {
            let began = Instant::now();
            transaction.commit()?;
            metrics.committed(began.elapsed(), answers.len(), &transitions);
        }
        None => transaction.abort()?,
    }
    Ok((answers, left))
}
