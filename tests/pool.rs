// SPDX-License-Identifier: MIT OR Apache-2.0
//! Jobs that run side by side, and the promises of their results.

use anyhow::anyhow;
use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// What a job will have returned; an error if it failed or panicked.
pub type Promise<T> = Arc<OnceLock<anyhow::Result<T>>>;

/// Jobs that have not begun.
#[derive(Default)]
pub struct Pool {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
}

impl Pool {
    /// Adds a job; those added first begin first.
    pub fn add<T: Send + Sync + 'static>(
        &mut self,
        job: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> Promise<T> {
        let promise = Promise::default();
        let kept = Arc::clone(&promise);
        self.jobs.push_back(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(anyhow!("panicked: {}", text.unwrap_or("?")))
            });
            // No other thread sets it.
            let _ = kept.set(result);
        }));
        promise
    }

    /// Starts all jobs on `workers` threads, which live until all are done.
    pub fn start(self, workers: usize) {
        let jobs = Arc::new(Mutex::new(self.jobs));
        for _ in 0..workers.max(1) {
            let jobs = Arc::clone(&jobs);
            thread::spawn(move || {
                let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(job) = next() {
                    job();
                }
            });
        }
    }
}

/// Machines to run at once: `$PORTCULLIS_JOBS`, or one per core.
#[must_use]
pub fn workers() -> usize {
    let wish = std::env::var("PORTCULLIS_JOBS").ok().and_then(|text| text.parse().ok());
    wish.unwrap_or_else(|| thread::available_parallelism().map_or(2, NonZero::get))
}
