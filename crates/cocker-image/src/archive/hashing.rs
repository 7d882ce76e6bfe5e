//! The digest of an archive, made in a thread of its own while files are read or written.

use crate::digest::{Digest, Digester};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

/// How many buffers wait at most.
const QUEUE: usize = 4;

/// Bytes to count; they are shared with who passes them on.
struct Job {
    bytes: Arc<Vec<u8>>,
    start: usize,
    /// Whether to forget all that was counted before.
    is_new: bool,
}

/// The other end of the thread.
pub(super) struct Hashing {
    jobs: SyncSender<Job>,
    counted: Receiver<()>,
    thread: JoinHandle<Digest>,
}

impl Hashing {
    pub fn start() -> io::Result<Hashing> {
        let (jobs, queue) = sync_channel(QUEUE);
        let (done, counted) = channel();
        let thread = thread::Builder::new().name("digest".into());
        Ok(Hashing {
            jobs,
            counted,
            thread: thread.spawn(move || count(&queue, &done))?,
        })
    }

    /// Counts all these bytes.
    pub fn add(&self, bytes: &Arc<Vec<u8>>) {
        self.send(bytes, 0, false);
    }

    /// Forgets all that was counted and counts these bytes from `start` on.
    pub fn restart(&self, bytes: &Arc<Vec<u8>>, start: usize) {
        self.send(bytes, start, true);
    }

    /// Waits until the oldest of the bytes that were added and not waited for are counted.
    pub fn wait_for_oldest(&self) {
        let counted = self.counted.recv();
        counted.expect("the thread lives as long as jobs may come");
    }

    pub fn finish(self) -> Digest {
        drop(self.jobs);
        self.thread.join().expect("counting bytes does not fail")
    }

    fn send(&self, bytes: &Arc<Vec<u8>>, start: usize, is_new: bool) {
        let job = Job {
            bytes: Arc::clone(bytes),
            start,
            is_new,
        };
        let sent = self.jobs.send(job);
        sent.expect("the thread lives as long as jobs may come");
    }
}

/// The life of the thread.
fn count(queue: &Receiver<Job>, done: &Sender<()>) -> Digest {
    let mut digester = Digester::new(io::sink());
    while let Ok(job) = queue.recv() {
        if job.is_new {
            digester = Digester::new(io::sink());
        }
        digester.count(&job.bytes[job.start..]);
        // First the bytes go, so that who is told finds nobody else using them.
        drop(job.bytes);
        if !job.is_new {
            // Nobody waits for the last ones.
            _ = done.send(());
        }
    }
    digester.finish().0
}
