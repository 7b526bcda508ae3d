//! What can happen next in a state of the protocol: to a coordinator, to an attempt, to a request on its way, to time.

use super::*;

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

    pub(super) fn tick(&self, from: &State) -> State {
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
    pub(super) fn coordinate(&self, from: &State, i: usize, into: &mut Vec<(Step, State)>) {
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
    pub(super) fn attempt(&self, from: &State, n: usize, into: &mut Vec<(Step, State)>) {
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
    pub(super) fn request(&self, from: &State, n: usize, into: &mut Vec<(Step, State)>) {
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

pub(super) fn order(a: &Attempt) -> (u8, u8, u8, u8, u8, bool) {
    (255 - a.at as u8, a.job, a.what, a.may_sign, a.life, a.is_old)
}
