//! The protocol that keeps an output in a bucket whole, as a machine of small steps: two coordinators that take leases,
//! their workers, and a store in which every request takes effect at any moment of its life, or never.
//!
//! What the code has in many objects is here one of each that matters: a plan, a checkpoint, the manifest, the metadata,
//! and for each segment its data and its receipt. Two jobs, A and B, write to the same keys. Any process may stop for
//! ever or pause for any time between any two steps.
//!
//! **Time** goes in ticks, and nobody knows how many have passed but by counting from what they have done or seen
//! themselves. This is ASSUMED: a worker's clock is behind by no more than [`Times::skew`] when it is compared with the
//! moment that an attempt carries; nothing comes between that comparison, or that with a holder's patience, and the
//! signature of the request that follows; a request takes effect within [`Times::signature`] of being signed, or not at
//! all; and one that its sender has sent once more takes effect no later than the second.

mod steps;

use std::fmt;

use super::explore::Model;
use steps::order;

/// How long things take, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// A holder writes within this many ticks of its last good beat.
    pub(crate) patience: u8,
    /// A holder whose beat has not changed for so long is taken for dead; more than `patience`.
    pub(crate) silence: u8,
    /// An attempt may sign requests for so long: its `not_after`.
    pub(crate) not_after: u8,
    /// ASSUMED: no worker's clock is behind by more.
    pub(crate) skew: u8,
    /// ASSUMED: a signed request takes effect within so many ticks, or never.
    pub(crate) signature: u8,
}

/// The rules of the protocol, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A receipt is written when its data is there.
    ReceiptAfterData,
    /// A worker asks before each write whether its attempt's time is over.
    Fence,
    /// Who deletes waits for the last `not_after` that was promised, and for the life of signatures.
    WaitBeforeDeleting,
    /// ... and not for the first only,
    WaitForSignatures,
    /// ... and as much longer as clocks may differ.
    WaitForSkew,
    /// A coordinator asks before each write of its own whether it still holds the output.
    Guard,
    /// A checkpoint, too, is written by the holder only.
    CheckpointByHolder,
    /// A lease is created, never replaced.
    LeaseIsCreated,
    /// Who has promised a `not_after` looks once more for a higher lease before it sends an attempt.
    LookAfterPromise,
    /// Manifest and metadata are deleted before anything they speak of.
    MetadataFirst,
    /// Receipts are deleted before the data they vouch for.
    ReceiptsBeforeData,
    /// The checkpoint is deleted before the receipts it speaks of.
    CheckpointBeforeReceipts,
    /// A holder says that it will delete, so that the next one waits for it even when it resumes.
    SayThatYouDelete,
    /// A run is published when every receipt is there.
    PublishAtTheEnd,
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// The times.
    pub(crate) times: Times,
    /// Segments of a run: 1 or 2.
    pub(crate) segments: usize,
    /// Attempts under way at once: 1 or 2.
    pub(crate) attempts: usize,
    /// Whether there is a second job.
    pub(crate) jobs: u8,
    /// Whether `--overwrite` is ever given.
    pub(crate) overwrites: bool,
    /// Whether the input may change under a run, so that receipts are taken back.
    pub(crate) input_changes: bool,
    /// Whether checkpoints are written.
    pub(crate) checkpoints: bool,
    /// The rule that is left out.
    pub(crate) without: Option<Rule>,
}

const NOBODY: u8 = 2;

/// Where a coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
enum Phase {
    Out,
    /// Has seen that there is no holder, or that it released.
    LookedFree,
    /// Has seen that the holder is silent.
    LookedSilent,
    /// Has the lease of a silent holder, and says what that one may have left on its way.
    Claimed,
    /// Has the output, and has not looked at it.
    Held,
    /// Waits for what is on its way.
    Quiesce,
    DeleteManifest,
    DeleteMetadata,
    DeleteCheckpoint,
    DeleteReceipts,
    DeleteData,
    DeletePlan,
    CreatePlan,
    /// The input has changed: the first segment is to be done again.
    TakeBackQuiesce,
    TakeBackCheckpoint,
    TakeBackReceipt,
    Run,
    WriteManifest,
    /// Deletes what the manifest stands for now.
    Fold,
}

/// A coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Coordinator {
    phase: Phase,
    /// The job: 1 is A, 2 is B.
    job: u8,
    overwrites: bool,
    /// Its lease is the highest.
    is_top: bool,
    /// Somebody has claimed since it looked.
    is_stale: bool,
    /// Ticks for which it still writes.
    fresh: u8,
    /// A promise is on its way.
    promising: bool,
    /// Ticks for which attempts that it sends now may sign.
    grant: u8,
    /// Segments that it knows to be done.
    done: u8,
}

const OUT: Coordinator = Coordinator {
    phase: Phase::Out,
    job: 0,
    overwrites: false,
    is_top: false,
    is_stale: false,
    fresh: 0,
    promising: false,
    grant: 0,
    done: 0,
};

/// What an attempt is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum At {
    Nothing,
    Sent,
    DataSigned,
    DataThere,
    ReceiptSigned,
    MetadataSigned,
}

/// An attempt of a worker at a segment, or at publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    at: At,
    job: u8,
    /// A segment, or [`PUBLISH`].
    what: u8,
    /// Ticks for which it may sign.
    may_sign: u8,
    /// Ticks for which its request may take effect.
    life: u8,
    /// It was sent before an overwrite began to delete.
    is_old: bool,
}

const PUBLISH: u8 = 2;
const NO_ATTEMPT: Attempt = Attempt { at: At::Nothing, job: 0, what: 0, may_sign: 0, life: 0, is_old: false };

/// A write of a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Write {
    None,
    DeleteManifest,
    DeleteMetadata,
    DeleteCheckpoint,
    DeleteReceipts,
    DeleteReceipt,
    DeleteData,
    DeletePlan,
    CreatePlan,
    Checkpoint,
    Manifest,
    Fold,
}

/// A write of a coordinator on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    write: Write,
    job: u8,
    done: u8,
    life: u8,
    /// Who waits for it.
    by: u8,
    is_old: bool,
}

const NO_REQUEST: Request = Request { write: Write::None, job: 0, done: 0, life: 0, by: NOBODY, is_old: false };

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    plan: u8,
    manifest: u8,
    metadata: u8,
    data: [u8; 2],
    /// For each segment, a bit for each job.
    receipts: [u8; 2],
    checkpoint: (u8, u8),
    /// The highest lease has been released, or there is none.
    is_released: bool,
    /// Ticks since the beat of the highest lease last changed.
    silence: u8,
    /// Ticks until everything that was promised is over.
    embargo: u8,
    /// A holder has said that it deletes, and not that it has ended.
    deletes: bool,
    /// The holder of the highest lease has begun to delete.
    swept: bool,
    /// A write that was sent before that has taken effect after it.
    spoiled: bool,
    coordinators: [Coordinator; 2],
    attempts: [Attempt; 2],
    requests: [Request; 2],
}

/// A step, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Tick,
    Coordinator(u8, &'static str),
    Sends(u8, u8),
    Worker(u8, &'static str),
    Lands(Request),
}

fn job(job: u8) -> &'static str {
    ["no job", "A", "B"][usize::from(job)]
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Tick => write!(f, "a tick"),
            Step::Coordinator(i, what) => write!(f, "coordinator {} {what}", i + 1),
            Step::Sends(i, PUBLISH) => write!(f, "coordinator {} sends an attempt to publish", i + 1),
            Step::Sends(i, what) => write!(f, "coordinator {} sends an attempt at segment {what}", i + 1),
            Step::Worker(of, what) => write!(f, "a worker of {} {what}", job(*of)),
            Step::Lands(request) => {
                let by = if request.by == NOBODY {
                    "somebody gone".into()
                } else {
                    format!("coordinator {}", request.by + 1)
                };
                write!(f, "a request of {by} takes effect: {:?} ({})", request.write, job(request.job))
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            plan: 0,
            manifest: 0,
            metadata: 0,
            data: [0; 2],
            receipts: [0; 2],
            checkpoint: (0, 0),
            is_released: true,
            silence: 0,
            embargo: 0,
            deletes: false,
            swept: false,
            spoiled: false,
            coordinators: [OUT; 2],
            attempts: [NO_ATTEMPT; 2],
            requests: [NO_REQUEST; 2],
        }
    }

    fn steps(&self, from: &State, into: &mut Vec<(Step, State)>) {
        for i in 0..2 {
            self.coordinate(from, i, into);
        }
        for n in 0..self.attempts {
            self.attempt(from, n, into);
        }
        for n in 0..2 {
            self.request(from, n, into);
        }
        into.push((Step::Tick, self.tick(from)));
        for (_, to) in into.iter_mut() {
            // Told apart only where a path is shown: which coordinator is which doesn't matter.
            if self.without.is_none() && to.coordinators[1] < to.coordinators[0] {
                to.coordinators.swap(0, 1);
                to.requests.iter_mut().filter(|r| r.by != NOBODY).for_each(|r| r.by = 1 - r.by);
            }
            to.requests.sort_unstable_by_key(|r| (r.write as u8, r.by));
            to.attempts.sort_unstable_by_key(order);
        }
        into.retain(|(_, to)| to != from);
    }

    fn violation(&self, s: &State) -> Option<&'static str> {
        let holds = |c: &Coordinator| c.phase as u8 >= Phase::Held as u8 && c.fresh > 0;
        if s.spoiled {
            return Some("a write from before a deletion takes effect after it has begun");
        }
        if s.coordinators.iter().all(holds) {
            return Some("two coordinators hold the output");
        }
        for segment in 0..self.segments {
            let receipts = s.receipts[segment];
            if receipts != 0 && receipts != s.data[segment] {
                return Some("a receipt vouches for data that isn't there, or isn't its own");
            }
        }
        if s.metadata != 0 && s.data[..self.segments].iter().any(|data| *data != s.metadata) {
            return Some("what can be opened isn't whole");
        }
        if s.manifest != 0 && s.metadata != s.manifest {
            return Some("a manifest speaks of what isn't published");
        }
        let (job, claimed) = s.checkpoint;
        if job != 0 && job == s.plan && s.manifest == 0 {
            let has = |segment: usize| s.receipts[segment] & job != 0;
            if (0..self.segments).any(|segment| claimed & 1 << segment != 0 && !has(segment)) {
                return Some("a checkpoint claims what no receipt says");
            }
        }
        None
    }

    fn is_goal(&self, s: &State) -> bool {
        s.manifest != 0
    }
}
