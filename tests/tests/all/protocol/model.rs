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

use std::fmt;

use super::explore::Model;

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

impl Protocol {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn all(&self) -> u8 {
        (1 << self.segments) - 1
    }

    /// What comes after a deletion.
    fn after(&self, phase: Phase) -> Phase {
        use Phase::*;
        let metadata_first = self.has(Rule::MetadataFirst);
        let receipts_first = self.has(Rule::ReceiptsBeforeData);
        let checkpoint_first = self.has(Rule::CheckpointBeforeReceipts);
        let (one, two) =
            if checkpoint_first { (DeleteCheckpoint, DeleteReceipts) } else { (DeleteReceipts, DeleteCheckpoint) };
        let mut order = if receipts_first { [one, two, DeleteData] } else { [DeleteData, one, two] }.to_vec();
        order.splice(if metadata_first { 0..0 } else { 3..3 }, [DeleteManifest, DeleteMetadata]);
        order.insert(0, Quiesce);
        order.extend([DeletePlan, CreatePlan]);
        let at = order.iter().position(|p| *p == phase).expect("a phase of deleting");
        order[at + 1]
    }

    fn embargo_of_attempts(&self) -> u8 {
        let Times { not_after, skew, signature, .. } = self.times;
        let skew = if self.has(Rule::WaitForSkew) { skew } else { 0 };
        // What is signed in its last tick may take effect in that very one.
        let signature = if self.has(Rule::WaitForSignatures) { signature - 1 } else { 0 };
        not_after + skew + signature
    }

    fn tick(&self, from: &State) -> State {
        let mut to = *from;
        to.silence = if to.is_released { 0 } else { (to.silence + 1).min(self.times.silence) };
        to.embargo = to.embargo.saturating_sub(1);
        for c in &mut to.coordinators {
            c.fresh = c.fresh.saturating_sub(1);
            c.grant = c.grant.saturating_sub(1);
        }
        for a in &mut to.attempts {
            a.may_sign = a.may_sign.saturating_sub(1);
            let is_on_its_way = matches!(a.at, At::DataSigned | At::ReceiptSigned | At::MetadataSigned);
            a.life -= u8::from(is_on_its_way);
            // It never does anything any more.
            let is_over = a.may_sign == 0 && self.has(Rule::Fence) && !is_on_its_way;
            if is_over || (is_on_its_way && a.life == 0) {
                *a = NO_ATTEMPT;
            }
        }
        for r in to.requests.iter_mut().filter(|r| r.write != Write::None) {
            r.life -= 1;
            if r.life == 0 {
                *r = NO_REQUEST;
            }
        }
        to
    }

    /// All steps of one coordinator.
    fn coordinate(&self, from: &State, i: usize, into: &mut Vec<(Step, State)>) {
        let c = from.coordinators[i];
        let mut go = |what: &'static str, change: &dyn Fn(&mut State, &mut Coordinator)| {
            let (mut to, mut me) = (*from, c);
            change(&mut to, &mut me);
            to.coordinators[i] = me;
            into.push((Step::Coordinator(i as u8, what), to));
        };
        if c.phase != Phase::Out {
            go("dies", &|to, me| {
                *me = OUT;
                disown(to, i);
            });
        }
        let is_waiting = from.requests.iter().any(|r| r.by == i as u8);
        let may_write = c.fresh > 0 || !self.has(Rule::Guard);
        match c.phase {
            Phase::Out => {
                let looked = match (from.is_released, from.silence >= self.times.silence) {
                    (true, _) => Phase::LookedFree,
                    (_, true) => Phase::LookedSilent,
                    _ => return,
                };
                for job in 1..=self.jobs {
                    for overwrites in [false, true] {
                        // Of two jobs, one resumes and the other replaces.
                        if overwrites && !self.overwrites || self.jobs == 2 && overwrites != (job == 2) {
                            continue;
                        }
                        let what = match (job, overwrites) {
                            (1, false) => "wants A, and finds nobody",
                            (1, true) => "wants A with --overwrite, and finds nobody",
                            (_, false) => "wants B, and finds nobody",
                            (_, true) => "wants B with --overwrite, and finds nobody",
                        };
                        go(what, &|_, me| *me = Coordinator { phase: looked, job, overwrites, ..OUT });
                    }
                }
                return;
            }
            Phase::LookedFree | Phase::LookedSilent => {
                if c.is_stale && self.has(Rule::LeaseIsCreated) {
                    go("finds that somebody else was quicker", &|_, me| *me = OUT);
                    return;
                }
                go("claims the next lease", &|to, me| {
                    let other = &mut to.coordinators[1 - i];
                    // Two that replaced the same lease both find it to be the highest.
                    other.is_top &= me.is_stale;
                    other.is_stale = matches!(other.phase, Phase::LookedFree | Phase::LookedSilent);
                    (to.silence, to.is_released, to.swept) = (0, false, false);
                    (me.is_top, me.is_stale, me.fresh) = (true, false, self.times.patience);
                    me.phase = if me.phase == Phase::LookedFree { Phase::Held } else { Phase::Claimed };
                });
                return;
            }
            _ => {}
        }

        if c.fresh == 0 && self.has(Rule::Guard) {
            go("sees that it has lost the output", &|to, me| {
                *me = OUT;
                disown(to, i);
            });
        } else if c.is_top {
            if c.fresh < self.times.patience || from.silence > 0 {
                go("beats", &|to, me| {
                    me.fresh = self.times.patience;
                    to.silence = 0;
                });
            }
            // As long as nobody has claimed, who looks sees it.
        } else {
            go("sees a higher lease", &|to, me| {
                *me = OUT;
                disown(to, i);
            });
        }
        // A checkpoint of somebody who doesn't ask whether it still holds the output.
        if self.checkpoints
            && c.phase == Phase::Run
            && !is_waiting
            && c.done != 0
            && from.checkpoint != (c.job, c.done)
            && (may_write || !self.has(Rule::CheckpointByHolder))
        {
            go("signs a checkpoint", &|to, me| self.sign(to, i, me, Write::Checkpoint));
        }
        // What was signed before goes on even when nothing more may be.
        if c.promising {
            go("has its promise in the store", &|to, me| {
                to.embargo = to.embargo.max(self.embargo_of_attempts());
                me.promising = false;
                if me.is_top || !self.has(Rule::LookAfterPromise) {
                    me.grant = self.times.not_after;
                } else {
                    *me = OUT;
                    disown(to, i);
                }
            });
        }
        if c.phase == Phase::Run && c.grant > 0 {
            self.send(from, i, into);
        }
        let mut go = |what: &'static str, change: &dyn Fn(&mut State, &mut Coordinator)| {
            let (mut to, mut me) = (*from, c);
            change(&mut to, &mut me);
            to.coordinators[i] = me;
            into.push((Step::Coordinator(i as u8, what), to));
        };
        if !may_write || is_waiting {
            return;
        }
        match c.phase {
            // What that one has sent itself may be on its way.
            Phase::Claimed => go("allows for what the one before has sent", &|to, me| {
                to.embargo = to.embargo.max(self.times.signature);
                me.phase = Phase::Held;
            }),
            Phase::Held => go("looks at the output", &|to, me| self.look(to, i, me)),
            Phase::Quiesce | Phase::TakeBackQuiesce if from.embargo == 0 || !self.has(Rule::WaitBeforeDeleting) => {
                go("begins to delete", &|to, me| {
                    to.deletes = self.has(Rule::SayThatYouDelete);
                    to.swept = true;
                    to.attempts.iter_mut().filter(|a| a.at != At::Nothing).for_each(|a| a.is_old = true);
                    to.requests.iter_mut().filter(|r| r.write != Write::None).for_each(|r| r.is_old = true);
                    me.phase = match me.phase {
                        Phase::Quiesce => self.after(Phase::Quiesce),
                        _ => Phase::TakeBackCheckpoint,
                    };
                });
            }
            Phase::DeleteManifest => go("signs: no manifest", &|to, me| self.sign(to, i, me, Write::DeleteManifest)),
            Phase::DeleteMetadata => go("signs: no metadata", &|to, me| self.sign(to, i, me, Write::DeleteMetadata)),
            Phase::DeleteCheckpoint | Phase::TakeBackCheckpoint => {
                go("signs: no checkpoint", &|to, me| self.sign(to, i, me, Write::DeleteCheckpoint));
            }
            Phase::DeleteReceipts => go("signs: no receipts", &|to, me| self.sign(to, i, me, Write::DeleteReceipts)),
            Phase::TakeBackReceipt => {
                go("signs: not this receipt", &|to, me| self.sign(to, i, me, Write::DeleteReceipt))
            }
            Phase::DeleteData => go("signs: no data", &|to, me| self.sign(to, i, me, Write::DeleteData)),
            Phase::DeletePlan => go("signs: no plan", &|to, me| self.sign(to, i, me, Write::DeletePlan)),
            Phase::CreatePlan => go("signs its plan", &|to, me| self.sign(to, i, me, Write::CreatePlan)),
            Phase::WriteManifest => go("signs the manifest", &|to, me| self.sign(to, i, me, Write::Manifest)),
            Phase::Fold => go("signs: no plan, no receipts", &|to, me| self.sign(to, i, me, Write::Fold)),
            Phase::Run => {
                if !c.promising && c.grant < self.times.not_after {
                    go("signs a promise", &|_, me| me.promising = true);
                }
                let has = |s: usize| from.receipts[s] & c.job != 0;
                let known = (0..self.segments).filter(|s| has(*s)).fold(0, |mask, s| mask | 1 << s);
                if known & !c.done != 0 {
                    go("hears what is done", &|_, me| me.done |= known);
                }
                if c.done == self.all() && from.metadata == c.job {
                    go("hears that it is published", &|_, me| {
                        (me.phase, me.grant, me.promising) = (Phase::WriteManifest, 0, false);
                    });
                }
            }
            _ => {}
        }
    }

    /// The first look at an output that is held.
    fn look(&self, to: &mut State, i: usize, me: &mut Coordinator) {
        if me.overwrites {
            (me.phase, me.overwrites) = (Phase::Quiesce, false);
            return;
        }
        // Somebody was deleting, and may not have ended.
        if to.deletes && to.embargo > 0 {
            return;
        }
        to.deletes = false;
        let is_free = to.manifest == 0 && to.plan == 0 && to.metadata == 0 && to.data == [0, 0];
        if to.manifest != 0 || (to.plan != me.job && !is_free) {
            // Already done, or somebody else's.
            release(to, i, me);
        } else if to.plan == me.job {
            me.phase = Phase::Run;
            me.done = if to.checkpoint.0 == me.job { to.checkpoint.1 } else { 0 };
            if self.input_changes && to.receipts[0] & me.job != 0 && to.metadata == 0 {
                me.phase = Phase::TakeBackQuiesce;
            }
        } else {
            me.phase = Phase::CreatePlan;
        }
    }

    /// Sends a write on its way.
    fn sign(&self, to: &mut State, i: usize, me: &mut Coordinator, write: Write) {
        let Some(free) = to.requests.iter_mut().find(|r| r.write == Write::None) else { return };
        let done = if write == Write::Checkpoint { me.done } else { 0 };
        // Whoever deletes what is not there changes nothing.
        let is_old = !me.is_top && to.swept;
        *free = Request { write, job: me.job, done, life: self.times.signature, by: i as u8, is_old };
    }

    fn send(&self, from: &State, i: usize, into: &mut Vec<(Step, State)>) {
        let c = from.coordinators[i];
        let Some(free) = from.attempts[..self.attempts].iter().position(|a| a.at == At::Nothing) else { return };
        let whats: Vec<u8> = match c.done == self.all() || !self.has(Rule::PublishAtTheEnd) {
            true if from.metadata != c.job => vec![PUBLISH],
            true => vec![],
            false => (0..self.segments as u8).filter(|s| c.done & 1 << s == 0).collect(),
        };
        for what in whats {
            let mut to = *from;
            let may_sign = c.grant + self.times.skew;
            let is_old = !c.is_top && from.swept;
            to.attempts[free] = Attempt { at: At::Sent, job: c.job, what, may_sign, life: 0, is_old };
            into.push((Step::Sends(i as u8, what), to));
        }
    }

    /// All steps of one attempt.
    fn attempt(&self, from: &State, n: usize, into: &mut Vec<(Step, State)>) {
        let a = from.attempts[n];
        if a.at == At::Nothing {
            return;
        }
        let segment = usize::from(a.what.min(1));
        let mut go = |what: &'static str, attempt: Attempt, change: &dyn Fn(&mut State)| {
            let mut to = *from;
            to.attempts[n] = attempt;
            change(&mut to);
            into.push((Step::Worker(a.job, what), to));
        };
        let life = self.times.signature;
        let may_sign = a.may_sign > 0 || !self.has(Rule::Fence);
        let there = |s: usize| from.receipts[s] & a.job != 0;
        match a.at {
            At::Sent if a.what == PUBLISH => {
                let ready = (0..self.segments).all(there) || !self.has(Rule::PublishAtTheEnd);
                if ready && may_sign {
                    go("signs the metadata", Attempt { at: At::MetadataSigned, life, ..a }, &|_| {});
                }
            }
            At::Sent if may_sign && !there(segment) => {
                if self.has(Rule::ReceiptAfterData) {
                    go("signs its data", Attempt { at: At::DataSigned, life, ..a }, &|_| {});
                } else {
                    go("signs its receipt", Attempt { at: At::ReceiptSigned, life, ..a }, &|_| {});
                }
            }
            At::DataSigned => {
                let after = if self.has(Rule::ReceiptAfterData) {
                    Attempt { at: At::DataThere, life: 0, ..a }
                } else {
                    NO_ATTEMPT
                };
                go("has its data in the store", after, &|to| {
                    to.data[segment] = a.job;
                    to.spoiled |= a.is_old;
                });
            }
            At::DataThere if may_sign => {
                go("signs its receipt", Attempt { at: At::ReceiptSigned, life, ..a }, &|_| {});
            }
            At::ReceiptSigned => {
                let after = if self.has(Rule::ReceiptAfterData) {
                    NO_ATTEMPT
                } else {
                    Attempt { at: At::DataSigned, life, ..a }
                };
                go("has its receipt in the store", after, &|to| {
                    to.receipts[segment] |= a.job;
                    to.spoiled |= a.is_old;
                });
            }
            At::MetadataSigned => go("has published", NO_ATTEMPT, &|to| {
                to.metadata = a.job;
                to.spoiled |= a.is_old;
            }),
            _ => {}
        }
    }

    /// A write of a coordinator takes effect, or is lost.
    fn request(&self, from: &State, n: usize, into: &mut Vec<(Step, State)>) {
        let r = from.requests[n];
        if r.write == Write::None {
            return;
        }
        let mut gone = *from;
        gone.requests[n] = NO_REQUEST;
        let mut to = gone;
        to.spoiled |= r.is_old;
        let mut is_ours = true;
        match r.write {
            Write::None => {}
            Write::DeleteManifest => to.manifest = 0,
            Write::DeleteMetadata => to.metadata = 0,
            Write::DeleteCheckpoint => to.checkpoint = (0, 0),
            Write::DeleteReceipts => to.receipts = [0, 0],
            Write::DeleteReceipt => to.receipts[0] &= !r.job,
            Write::DeleteData => to.data = [0, 0],
            Write::DeletePlan => to.plan = 0,
            Write::CreatePlan if to.plan == 0 => to.plan = r.job,
            Write::CreatePlan => is_ours = to.plan == r.job,
            Write::Checkpoint => to.checkpoint = (r.job, r.done),
            Write::Manifest => to.manifest = r.job,
            Write::Fold => (to.plan, to.receipts, to.checkpoint) = (0, [0, 0], (0, 0)),
        }
        if r.by != NOBODY {
            let i = usize::from(r.by);
            let mut me = to.coordinators[i];
            match r.write {
                Write::Checkpoint | Write::None => {}
                Write::CreatePlan if is_ours => {
                    to.deletes = false;
                    (me.phase, me.done) = (Phase::Run, 0);
                }
                Write::CreatePlan => release(&mut to, i, &mut me),
                Write::Manifest => me.phase = Phase::Fold,
                Write::Fold => release(&mut to, i, &mut me),
                Write::DeleteCheckpoint if me.phase == Phase::TakeBackCheckpoint => me.phase = Phase::TakeBackReceipt,
                Write::DeleteReceipt => {
                    to.deletes = false;
                    (me.phase, me.done) = (Phase::Run, 0);
                }
                _ => me.phase = self.after(me.phase),
            }
            to.coordinators[i] = me;
        }
        into.push((Step::Lands(r), to));
    }
}

/// What a coordinator that is gone had on its way stays on its way.
fn disown(to: &mut State, i: usize) {
    to.requests.iter_mut().filter(|r| r.by == i as u8).for_each(|r| r.by = NOBODY);
}

fn release(to: &mut State, i: usize, me: &mut Coordinator) {
    if me.is_top {
        to.is_released = true;
    }
    *me = OUT;
    disown(to, i);
}

fn order(a: &Attempt) -> (u8, u8, u8, u8, u8, bool) {
    (255 - a.at as u8, a.job, a.what, a.may_sign, a.life, a.is_old)
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
