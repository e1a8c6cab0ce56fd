//! The thread that brings the state store up to the log after each commit.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use pitwall_engine::log::{SinkError, bring_up_to_date};

use crate::log::EmbeddedLog;
use crate::store::EmbeddedStore;

/// Facts stored at a time: few enough that a reader of the store never waits long.
const FACTS_MAX: usize = 1_024;

/// A running sink. Dropping it stores what is due and stops the thread.
pub struct Sink {
    pending: Pending,
    thread: Option<JoinHandle<()>>,
}

/// What a session's thread tells the sink. Telling costs no more than a lock, however far the sink is behind.
#[derive(Clone)]
pub struct Pending(Arc<Shared>);

#[derive(Default)]
struct Shared {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Default)]
struct Due {
    /// Sessions and epochs with new facts: at most one entry each.
    sessions: BTreeSet<(i32, i32)>,
    is_busy: bool,
    is_stopping: bool,
}

impl Pending {
    /// Says that a session has new facts.
    pub fn tell(&self, session_key: i32, epoch: i32) {
        self.due().sessions.insert((session_key, epoch));
        self.0.changed.notify_all();
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.0.due.lock().expect("no thread panics while it holds what is due")
    }

    fn wait(&self, due: MutexGuard<'_, Due>, until: impl Fn(&Due) -> bool) {
        let waited = self.0.changed.wait_while(due, |due| !until(due));
        drop(waited.expect("no thread panics while it holds what is due"));
    }
}

impl Sink {
    /// Starts the thread and has it store whatever the log holds already.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(mut log: EmbeddedLog, mut store: EmbeddedStore) -> io::Result<Self> {
        let pending = Pending(Arc::default());
        for session in log.catalogue().map_err(io::Error::other)? {
            for epoch in 0..=session.head.epoch {
                pending.tell(session.session_key, epoch);
            }
        }
        let told = pending.clone();
        let thread = thread::Builder::new().name("sink".to_owned()).spawn(move || {
            loop {
                told.wait(told.due(), |due| due.is_stopping || !due.sessions.is_empty());
                let mut due = told.due();
                let Some((session_key, epoch)) = due.sessions.pop_first() else { return };
                due.is_busy = true;
                drop(due);
                if let Err(SinkError::Log(error) | SinkError::Store(error)) =
                    bring_up_to_date(&mut log, &mut store, session_key, epoch, FACTS_MAX)
                {
                    // The next commit tells again, and a restart stores what is missing.
                    tracing::error!(session_key, %error, "the state store is behind");
                }
                told.due().is_busy = false;
                told.0.changed.notify_all();
            }
        })?;
        Ok(Self { pending, thread: Some(thread) })
    }

    /// Where sessions' threads tell of new facts.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Waits until everything told so far is stored.
    pub fn flush(&self) {
        self.pending.wait(self.pending.due(), |due| due.sessions.is_empty() && !due.is_busy);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.pending.due().is_stopping = true;
        self.pending.0.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the sink has been printed; the log holds everything it had not stored.
            let _ = thread.join();
        }
    }
}
