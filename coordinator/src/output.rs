//! Taking an output: what lies there decides whether a plan is new, goes on, starts from what an earlier run has left, or
//! has been carried out already. The caller holds the output's lock.
//!
//! A finished run has a manifest; an unfinished one a plan without it. A plan beside the manifest of another is about to
//! replace it: whatever stopped that, it is taken up where it was left.

use std::future::Future;

use pipeline::plan::{Plan, StageKind, memory};
use pipeline::publish::{self, Manifest, Outputs};
use pipeline::sources::{Sources, name_of};
use pipeline::store::{Store, Stores};
use pipeline::{Error, Result, layout, stale};

use crate::hold::Hold;
use crate::progress::Progress;
use crate::run::{Planned, Settings};
use crate::units;

/// What was found at an output.
pub(crate) enum Taken {
    /// This plan is to be run, from its start or from where it was left.
    Run(Box<Plan>),
    /// The same job is finished already.
    Finished(Box<Manifest>),
}

/// An output that is being taken.
pub(crate) struct Taking<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) store: &'a Store,
    pub(crate) planned: &'a Planned,
    pub(crate) settings: &'a Settings,
    pub(crate) hold: &'a Hold,
    pub(crate) progress: &'a Progress,
}

impl Taking<'_> {
    /// Makes the output this plan's, or finds out that it is finished, or somebody else's.
    ///
    /// # Errors
    /// Invalid when it holds the answers of another job and they are not to be overwritten.
    pub(crate) async fn take(&self) -> Result<Taken> {
        let (store, plan) = (self.store, &self.planned.plan);
        publish::sweep(store).await?;
        if self.settings.overwrite {
            return self.replace().await;
        }
        let another = || {
            Error::invalid(format!("{} holds the answers of another job", store.url()))
                .hint("choose another output with -o, or replace them with --overwrite")
        };
        let (manifest, stored) = (Manifest::read(store).await?, Plan::read(store).await?);
        match (manifest, stored) {
            (manifest, Some(stored)) if manifest.as_ref().is_none_or(|manifest| manifest.plan.id != stored.id) => {
                if stored.identity != plan.identity {
                    return Err(another());
                }
                if let Some(old) = manifest {
                    self.deleting(publish::retire(store, &old, &stored)).await?;
                }
                self.resume(stored).await
            }
            (Some(manifest), _) if manifest.plan.identity == plan.identity => self.finished(manifest).await,
            (Some(_), _) => Err(another()),
            (None, _) => match self.found_something().await? {
                Some(found) => Err(Error::invalid(format!(
                    "{} is there already, and no run of voxmill says whose it is",
                    store.display(&found)
                ))
                .hint("choose another output with -o, or replace it with --overwrite")),
                None => self.start(plan.clone()).await,
            },
        }
    }

    /// Carries out work that deletes or takes back, once nobody's late write can spoil it.
    async fn deleting<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.hold.deleting(&|line| self.progress.say(line), work).await
    }

    /// A new run of a plan, in an output that is free.
    async fn start(&self, plan: Plan) -> Result<Taken> {
        if !plan.create(self.store).await? {
            return Err(Error::unavailable(format!("another voxmill has just started in {}", self.store.url())));
        }
        Ok(Taken::Run(Box::new(plan)))
    }

    /// A new run, whatever is there.
    async fn start_over(&self) -> Result<Taken> {
        self.deleting(publish::erase(self.store, &self.planned.plan)).await?;
        self.start(self.planned.plan.clone()).await
    }

    /// The unfinished run of a plan goes on. Its blocks are kept, so that what is done counts, unless they don't fit into
    /// this memory.
    async fn resume(&self, stored: Plan) -> Result<Taken> {
        let store = self.store;
        if let (Some(theirs), Some(ours)) = (&stored.code, &self.planned.plan.code)
            && theirs != ours
        {
            self.progress.say("the function has changed since this run began: everything is computed again");
            return self.start_over().await;
        }
        if memory::project(&stored, &self.settings.resources).is_err() {
            self.deleting(publish::clean(store)).await?;
            return self.start(self.planned.plan.clone()).await;
        }
        if !stored.given.is_empty() && !store.exists(layout::GIVEN).await? {
            self.progress.say("what this run was to start from was being removed: everything is computed again");
            return self.start_over().await;
        }
        let sources = Sources::open(self.stores, &stored).await?;
        let Some(now) = sources.versions().await? else { return Ok(Taken::Run(Box::new(stored))) };
        if stored.contents.as_deref() == Some(&name_of(&now)) {
            return Ok(Taken::Run(Box::new(stored)));
        }
        if !stored.given.is_empty() {
            // What it starts from was made of what the input was.
            self.progress.say("the input has changed since this run began: everything is computed again");
            return self.start_over().await;
        }
        let stale = stale::find(store, &stored, &sources, &now).await?;
        self.say_stale(&stored, &stale);
        if !stale.is_empty() {
            self.deleting(async {
                // It may have been stopped while it published.
                publish::close(store, &stored).await?;
                stale::take_back(store, &stored, &stale).await
            })
            .await?;
        }
        Ok(Taken::Run(Box::new(stored)))
    }

    fn say_stale(&self, plan: &Plan, stale: &stale::Stale) {
        let segments: usize = stale.iter().filter(|(stage, _)| reads(plan, **stage)).map(|(_, s)| s.len()).sum();
        if segments > 0 {
            let segments = units::count(segments as u64);
            self.progress.say(&format!(
                "the input has changed since it was read: {segments} segments, and what depends on them, are computed again"
            ));
        }
    }

    /// The same job is finished: so it stays, unless its answers are gone or its input has changed.
    async fn finished(&self, manifest: Manifest) -> Result<Taken> {
        let store = self.store;
        if let Some(gone) = manifest.first_gone(store).await? {
            self.progress
                .say(&format!("{} is gone or has another length: everything is computed again", store.display(&gone)));
            return self.start_over().await;
        }
        let sources = Sources::open(self.stores, &manifest.plan).await?;
        if manifest.is_current(&sources).await? != Some(false) {
            if !manifest.kept {
                // An earlier run may have been stopped just before its last act.
                publish::clean(store).await?;
            }
            return Ok(Taken::Finished(Box::new(manifest)));
        }
        let kept = if manifest.kept { Plan::read(store).await? } else { None };
        match kept {
            Some(plan) if plan.id == manifest.plan.id => {
                self.deleting(publish::reopen(store, &manifest)).await?;
                self.resume(plan).await
            }
            _ => {
                self.progress.say("the input has changed since it was read: everything is computed again");
                self.start_over().await
            }
        }
    }

    /// Replaces what is there. The same job starts over; another one keeps what both have in common.
    async fn replace(&self) -> Result<Taken> {
        let (store, plan) = (self.store, &self.planned.plan);
        // What can't be read is replaced, too.
        let Some(old) = Manifest::read(store).await.ok().flatten() else { return self.start_over().await };
        let stored = Plan::read(store).await.ok().flatten();
        let replacing = stored.as_ref().is_some_and(|stored| stored.id != old.plan.id);
        if old.plan.identity == plan.identity || replacing || old.first_gone(store).await?.is_some() {
            return self.start_over().await;
        }
        let Ok(sources) = Sources::open(self.stores, &old.plan).await else { return self.start_over().await };
        if old.is_current(&sources).await? != Some(true) {
            return self.start_over().await;
        }
        let Some(new) = self.in_common(&old)? else { return self.start_over().await };
        if new.given.is_empty() {
            self.progress.say("going on from the stages that an earlier run left here");
        } else {
            let groups = |image: &usize| new.stored(*image).map(|stored| stored.groups.join(", "));
            let names: Vec<String> = new.given.images.iter().filter_map(groups).collect();
            self.progress.say(&format!("going on from what an earlier run left here: {}", names.join(", ")));
        }
        self.deleting(self.put_in_place_of(&old, new)).await
    }

    /// A new run that takes over from a finished one. As long as the manifest lies beside the new plan, what the new run
    /// does not need is still to be removed.
    async fn put_in_place_of(&self, old: &Manifest, new: Plan) -> Result<Taken> {
        if !new.given.is_empty() {
            publish::clean(self.store).await?;
            publish::hand_over(self.store, old, &new).await?;
        }
        self.store.delete(layout::PLAN).await?;
        let taken = self.start(new).await?;
        if let Taken::Run(new) = &taken {
            publish::retire(self.store, old, new).await?;
        }
        Ok(taken)
    }

    /// This job planned so that it has something in common with a finished run: stages, where their receipts and scratch
    /// were kept, else images.
    fn in_common(&self, old: &Manifest) -> Result<Option<Plan>> {
        let plan = self.planned.replan(self.settings, &old.plan, None)?;
        let same = |plan: &Plan| {
            let pairs = plan.stages.iter().zip(&old.plan.stages);
            pairs.take_while(|(new, old)| new.fingerprint == old.fingerprint).count()
        };
        if old.kept && same(&plan) > 0 {
            let (mut plan, stages) = (plan.clone(), same(&plan));
            // Segments are found by their lengths.
            for (new, old) in plan.stages.iter_mut().zip(&old.plan.stages).take(stages) {
                new.segment = old.segment;
            }
            return Ok(Some(plan));
        }
        let plan = self.planned.replan(self.settings, &old.plan, Some(&old.state))?;
        Ok((!plan.given.is_empty()).then_some(plan))
    }

    /// An output that lies there without a plan or manifest.
    async fn found_something(&self) -> Result<Option<String>> {
        let children = self.store.children("").await?;
        let mut outputs = Outputs::usual();
        let own = Outputs::of(&self.planned.plan);
        outputs.groups.extend(own.groups);
        outputs.files.extend(own.files);
        // A report alone says nothing that could be lost.
        let taken = |key: &String| {
            key != layout::RUN_REPORT && children.folders.iter().chain(&children.objects).any(|c| c == key)
        };
        Ok(outputs.groups.into_iter().chain(outputs.files).find(taken))
    }
}

/// Whether a stage goes over voxels.
fn reads(plan: &Plan, stage: usize) -> bool {
    matches!(plan.stages[stage].kind, StageKind::Map(_))
}
