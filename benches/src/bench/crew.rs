//! The threads of a run, and the passes they make together.
//!
//! The threads live as long as the run, so that what the store keeps for a thread is made once. A pass starts at
//! a barrier. Its wall time is that of the slowest thread, without what threads do between timed chunks; its CPU
//! time is the sum over the threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Barrier};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use zfolio::Zswap;

use super::phases::PhaseTime;
use super::stopwatch::{Lap, call_histogram};
use super::worker::{Faults, Pass, Worker};
use crate::interrupt::Interrupt;
use crate::os::{self, ThreadUsage};
use crate::progress::{Progress, TICK};
use crate::quantity::count;

/// What a pass over all pages took.
#[derive(Clone, Debug)]
pub(crate) struct PassTime {
    pub(crate) pages: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
    /// Faults and switches of all threads, in the whole of the pass: comparing pages is in it.
    pub(crate) usage: ThreadUsage,
    /// Where the time of timed calls went.
    pub(crate) phases: Option<PhaseTime>,
    /// Wall time in calls, of all threads together.
    pub(crate) busy: Duration,
    /// The whole of the pass, in the slowest thread.
    pub(crate) elapsed: Duration,
    /// Not cut short by Ctrl-C.
    pub(crate) complete: bool,
}

struct Order<'a> {
    pass: Pass,
    seed: u64,
    zswap: &'a Zswap,
    start: Arc<Barrier>,
}

struct Answer {
    lap: Lap,
    calls: Histogram<u64>,
    faults: Faults,
    usage: ThreadUsage,
    phases: Option<PhaseTime>,
    elapsed: Duration,
    complete: bool,
}

/// Threads that wait for passes to make. Dropping it ends them.
pub(crate) struct Crew<'a> {
    orders: Vec<Sender<Order<'a>>>,
    answers: Receiver<Answer>,
    done: Arc<AtomicU64>,
    /// Pages of all workers together.
    pages: u64,
}

impl<'a> Crew<'a> {
    /// Starts a thread for each worker, each on a CPU of its own where there are `pins`.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        workers: Vec<Worker<'a>>,
        pins: &[usize],
        interrupt: &Interrupt,
    ) -> std::io::Result<Self>
    where
        'a: 'scope,
    {
        let (answer, answers) = mpsc::channel();
        let done = Arc::new(AtomicU64::new(0));
        let mut orders = Vec::new();
        let pages = workers.iter().map(Worker::pages).sum();
        let unpinned = Unpin(if pins.is_empty() { Vec::new() } else { os::allowed_cpus()? });
        for (number, worker) in workers.into_iter().enumerate() {
            // Threads start where their parent may run.
            if let Some(&cpu) = pins.get(number) {
                os::run_on(&[cpu])?;
            }
            let (order, todo) = mpsc::channel();
            let (answer, done, interrupt) = (answer.clone(), done.clone(), interrupt.clone());
            thread::Builder::new().name(format!("bench-{number}")).spawn_scoped(
                scope,
                move || match worker.layout() {
                    Some(layout) => layout.below(|| serve(worker, &todo, &answer, &interrupt, &done)),
                    None => serve(worker, &todo, &answer, &interrupt, &done),
                },
            )?;
            orders.push(order);
        }
        drop(unpinned);
        Ok(Self { orders, answers, done, pages })
    }

    /// Makes one pass and waits for its end.
    pub(crate) fn pass(
        &self,
        pass: Pass,
        seed: u64,
        zswap: &'a Zswap,
        progress: &mut Progress,
        label: &str,
    ) -> (PassTime, Faults) {
        self.done.store(0, Ordering::Relaxed);
        let start = Arc::new(Barrier::new(self.orders.len()));
        for (number, order) in self.orders.iter().enumerate() {
            let seed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
            order
                .send(Order { pass, seed, zswap, start: start.clone() })
                .expect("threads live as long as the crew");
        }
        let mut time = PassTime {
            pages: 0,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            p50_ns: 0,
            p99_ns: 0,
            max_ns: 0,
            usage: ThreadUsage::default(),
            phases: None,
            busy: Duration::ZERO,
            elapsed: Duration::ZERO,
            complete: true,
        };
        let mut calls = call_histogram();
        let mut faults = Faults::default();
        for _ in &self.orders {
            let answer = self.wait(progress, label);
            time.pages += answer.lap.pages;
            time.wall = time.wall.max(answer.lap.wall);
            time.cpu += answer.lap.cpu;
            time.busy += answer.lap.wall;
            if let Some(phases) = &answer.phases {
                time.phases.get_or_insert_default().add(phases);
            }
            time.usage.add(answer.usage);
            time.elapsed = time.elapsed.max(answer.elapsed);
            time.complete &= answer.complete;
            calls.add(&answer.calls).expect("all histograms have the same range");
            faults.add(answer.faults);
        }
        time.p50_ns = calls.value_at_quantile(0.50);
        time.p99_ns = calls.value_at_quantile(0.99);
        time.max_ns = calls.max();
        (time, faults)
    }

    /// Waits for the next thread to finish. Wakes up in between only when somebody is watching.
    fn wait(&self, progress: &mut Progress, label: &str) -> Answer {
        const ENDED: &str = "a thread ends only with the crew";
        if !progress.visible() {
            return self.answers.recv().expect(ENDED);
        }
        loop {
            match self.answers.recv_timeout(TICK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => {
                    let done = self.done.load(Ordering::Relaxed);
                    progress.tick(|| {
                        format!("{label}: {} of {} pages", count(done as f64), count(self.pages as f64))
                    });
                }
                Err(RecvTimeoutError::Disconnected) => panic!("{ENDED}"),
            }
        }
    }
}

/// Lets the thread run on these CPUs again when dropped; on none it has nothing to undo.
struct Unpin(Vec<usize>);

impl Drop for Unpin {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            // It may run on these: it did. And the thread that waits for the others need not.
            let _ = os::run_on(&self.0);
        }
    }
}

/// Ends the process when a thread panics: the others would wait at the barrier for ever.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            // The panic has been told on standard error; 101 is what the main thread's panic would give.
            std::process::exit(101);
        }
    }
}

fn serve(
    mut worker: Worker<'_>,
    todo: &Receiver<Order<'_>>,
    answer: &Sender<Answer>,
    interrupt: &Interrupt,
    done: &AtomicU64,
) {
    let _end_on_panic = EndOnPanic;
    while let Ok(Order { pass, seed, zswap, start }) = todo.recv() {
        worker.prepare(pass, seed);
        start.wait();
        let (usage, begin) = (ThreadUsage::now(), Instant::now());
        let complete = worker.run(pass, zswap, interrupt, done);
        let (usage, elapsed) = (ThreadUsage::now().since(usage), begin.elapsed());
        let (lap, calls) = worker.watch().finish();
        let (faults, phases) = (worker.take_faults(), worker.phases());
        if answer.send(Answer { lap, calls, faults, usage, phases, elapsed, complete }).is_err() {
            return;
        }
    }
}
