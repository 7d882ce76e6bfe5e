//! Work on many things that is shared out to threads.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, sched_yield};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, available_parallelism};

/// From so many things on a thread is worth its own cost.
pub const MANY: usize = 256;
/// More threads than these would wait for each other in the kernel.
const MOST_THREADS: usize = 4;
/// A thread that comes late, or is slower, leaves the rest to the others.
const SHARES_A_THREAD: usize = 4;

/// Has several threads, one of them the caller's, take shares of the items until none are left; the answers are in the items'
/// order, and all threads have ended. Fewer than [`MANY`] items are one share.
///
/// # Errors
/// The first share's that failed; the others have been done all the same.
pub fn in_shares<I: Sync, T: Send, E: Send>(
    items: &[I],
    work: impl Fn(&[I]) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    if items.len() < MANY {
        return Ok(vec![work(items)?]);
    }
    let threads = available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MOST_THREADS);
    let processors = Processors::of(threads);
    let shares: Vec<&[I]> = items
        .chunks(items.len().div_ceil(threads * SHARES_A_THREAD))
        .collect();
    let next = AtomicUsize::new(0);
    let take_shares = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match shares.get(number) {
                Some(share) => done.push((number, work(share))),
                None => return done,
            }
        }
    };
    let on_its_own = |thread: usize| {
        if let Some(processors) = &processors {
            processors.go_to(thread);
        }
        take_shares()
    };
    let (take_shares, on_its_own) = (&take_shares, &on_its_own);
    let mut answers = std::thread::scope(|scope| {
        // Where a thread cannot be had, the others do its work.
        let start = |thread| Builder::new().spawn_scoped(scope, move || on_its_own(thread));
        let others: Vec<_> = (1..threads).flat_map(start).collect();
        let stay = processors.as_ref().map(Processors::stay);
        let mut answers = take_shares();
        drop(stay);
        for other in others {
            answers.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        answers
    });
    answers.sort_unstable_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The processors that threads are bound to, one to each, for the milliseconds that they live.
///
/// A kernel may begin a thread on the processor of whoever started it, and look only some milliseconds later whether another
/// is idle (where it has no scheduling domains, as in small virtual machines: sched-domains.rst). All would be over by then.
struct Processors {
    all: CpuSet,
    /// The first one is the caller's.
    numbers: Vec<usize>,
}

impl Processors {
    /// `None` where there is a choice, which is the kernel's.
    fn of(threads: usize) -> Option<Processors> {
        let all = sched_getaffinity(None).ok()?;
        let here = sched_getcpu();
        if all.count() as usize != threads || threads == 1 || !all.is_set(here) {
            return None;
        }
        let others = (0..CpuSet::MAX_CPU).filter(|number| all.is_set(*number) && *number != here);
        let numbers = [here].into_iter().chain(others).collect();
        Some(Processors { all, numbers })
    }

    /// Binds the calling thread. Where that is refused, the work is done more slowly.
    fn go_to(&self, thread: usize) {
        let mut one = CpuSet::new();
        one.set(self.numbers[thread]);
        let _ = sched_setaffinity(None, &one);
    }

    /// Binds the caller where it is. Those it has started are behind it there: they go first, and away.
    fn stay(&self) -> Stay<'_> {
        self.go_to(0);
        sched_yield();
        Stay(self)
    }
}

/// The caller is bound until drop.
struct Stay<'a>(&'a Processors);

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.0.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn answers_come_in_the_items_order() {
        for count in [0, 1, MANY - 1, MANY, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let shares = in_shares(&items, |items| Ok::<_, Infallible>(items.to_vec()));
            assert_eq!(shares.expect("nothing can fail").concat(), items);
        }
    }

    #[test]
    fn one_error_is_the_answer() {
        let items: Vec<usize> = (0..1000).collect();
        let last_fails = |items: &[usize]| match items.contains(&999) {
            true => Err("the last"),
            false => Ok(()),
        };
        assert_eq!(in_shares(&items, last_fails), Err("the last"));
    }
}
