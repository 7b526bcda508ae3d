//! Troubled equals calm, from a seed: the real dispatcher and real workers on a store and under circumstances that fail in
//! every way they can. Whatever happens, a run ends with the bytes of one to which nothing happened, or stops with
//! Unavailable and goes on when it is started again, as its user would.
//!
//! Every failure prints its seed. `VOXMILL_SEED=7` runs that seed alone, `VOXMILL_ROUNDS=500` the first five hundred.
//! Chance depends on the seed and on what is asked for which time, so that the same seed meets the same faults but for
//! what two threads race for.

mod crew;
mod faulty;
mod seed;

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::dispatch::{self, Dispatch, Ended};
use coordinator::executor::Executor;
use coordinator::hold::Hold;
use coordinator::price::Budget;
use coordinator::progress::Progress;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use pipeline::fence::Clock;
use pipeline::plan::Plan;
use pipeline::plan::memory::Resources;
use pipeline::publish::{self, Manifest};
use pipeline::sources::Sources;
use pipeline::store::{Store, Stores};
use pipeline::task::Worker;
use pipeline::{Kind, Result};
use tokio::runtime::Runtime;
use voxel::Dtype;

use crate::support::image::{Image, Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};
use crew::Crew;
use faulty::{Faulty, Tally, Weather};
use seed::{Dice, mix};

/// Faults that the suite is to survive.
const FAULTS_LEAST: u64 = 10_000;

/// Seeds that bring about so many.
const ROUNDS: u64 = 36;

/// Attempts of a thousand that befalls something.
const OF_ATTEMPTS: u64 = 150;

/// Few requests that fail at once, or many that mostly work when they are sent again.
const WEATHERS: [Weather; 3] =
    [Weather { per_mille: 15, tries: 1 }, Weather { per_mille: 120, tries: 2 }, Weather { per_mille: 230, tries: 3 }];
const CALM: Weather = Weather { per_mille: 0, tries: 1 };

/// Starts of a run until it is at its end. A user would have lost patience long before.
const STARTS_MOST: usize = 400;

const RESOURCES: Resources = Resources { memory_bytes: 2 << 30, threads: 2, merge_bytes: Some(60_000) };

/// Every kind of stage: histogram, seams, the tree, ranks, tables, levels, contacts.
const STEPS: [&str; 3] = [
    "median size=3 | threshold method=otsu | label connectivity=26",
    "gaussian sigma=1 save=smooth | threshold above=100 | fill_holes | label contacts=6 min_voxels=2",
    "threshold percentile=60 | close ball=1 | label",
];

fn image() -> Image {
    Recipe { extent: volume([26, 27, 29]), dtype: Dtype::U8, look: Look::Noise, gaps: true, seed: 11 }.image()
}

/// What a run leaves for its user.
type Answers = BTreeMap<String, Vec<u8>>;

async fn answers(of: &InMemory) -> Answers {
    let found: Vec<_> = of.list(None).try_collect().await.unwrap();
    let mut answers = BTreeMap::new();
    for meta in found.iter().filter(|meta| !meta.location.as_ref().starts_with(".voxmill/")) {
        let bytes = of.get(&meta.location).await.unwrap().bytes().await.unwrap();
        answers.insert(meta.location.to_string(), bytes.to_vec());
    }
    answers
}

/// A runtime for a dispatcher, whose time passes only while nobody works.
fn paused<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(work)
}

struct Case {
    plan: Arc<Plan>,
    floor: Arc<Runtime>,
    seed: u64,
    weather: Weather,
    tally: Tally,
}

impl Case {
    fn worker(&self, store: &Store, clock: &Clock) -> Arc<Worker> {
        let stores = Stores::default();
        let opened = Worker::open(&stores, store.clone(), Arc::clone(&self.plan), &RESOURCES, clock.clone());
        Arc::new(self.floor.block_on(opened).unwrap())
    }

    /// The workers, on another thread than the dispatcher's, since they are opened on their own floor.
    fn crew(&self, faulty: &Faulty, clock: Clock) -> Crew {
        let store = |faulty: Faulty| Store::over(Arc::new(faulty), "faulty");
        std::thread::scope(|scope| {
            let opened = scope.spawn(|| Crew {
                floor: Arc::clone(&self.floor),
                workers: [(); 2].map(|()| self.worker(&store(faulty.clone()), &clock)),
                doomed: self.worker(&store(faulty.doomed()), &clock),
                sleepy: self.worker(&store(faulty.clone()), &crew::sleepy(&clock, self.seed)),
                dice: Arc::new(Dice::new(mix(self.seed))),
                tally: self.tally.clone(),
                clock: clock.clone(),
                late: self.worker(&store(faulty.too_late()), &clock),
                per_mille: if self.weather.per_mille == 0 { 0 } else { OF_ATTEMPTS },
            });
            opened.join().unwrap()
        })
    }

    /// Starts the run again and again until it is at its end; gives its answers, and how many starts it took.
    fn run(&self) -> (Answers, usize) {
        let held = Arc::new(InMemory::new());
        let faulty = Faulty::new(Arc::clone(&held), self.seed, self.weather, self.tally.clone());
        let mut last = String::new();
        for start in 1..=STARTS_MOST {
            let ended = paused(self.start(&faulty, start as u64));
            match ended {
                Ok(()) => return (paused(answers(&held)), start),
                Err(error) => {
                    assert_eq!(error.kind, Kind::Unavailable, "seed {}: {error:?}", self.seed);
                    last = error.message;
                }
            }
        }
        panic!("seed {}: not at its end after {STARTS_MOST} starts, the last of which says {last}", self.seed)
    }

    /// What one `voxmill run` does with an output that is its own.
    async fn start(&self, faulty: &Faulty, lease: u64) -> Result<()> {
        let store = Store::over(Arc::new(faulty.clone()), "faulty");
        if Manifest::read(&store).await?.is_some() {
            return publish::clean(&store).await;
        }
        match Plan::read(&store).await? {
            Some(found) => assert_eq!(found.id, self.plan.id),
            None => assert!(self.plan.create(&store).await?, "seed {}: somebody else's plan", self.seed),
        }
        let clock = crew::clock();
        let executor: Arc<dyn Executor> = Arc::new(self.crew(faulty, clock.clone()));
        let Ended { state, stages, .. } = dispatch::run(&Dispatch {
            plan: &self.plan,
            store: &store,
            executor: &executor,
            progress: &Progress::new(true),
            clock: &clock,
            hold: &Hold::alone(lease),
            budget: &Budget::unlimited(),
            failures_most: 0,
            seed: self.seed ^ lease,
        })
        .await;
        state?;
        let units: Vec<u64> = stages.iter().map(|stage| stage.units).collect();
        let sources = Sources::open(&Stores::default(), &self.plan).await?;
        publish::fold(&store, &self.plan, &units, &sources, false).await.map(|_| ())
    }
}

#[test]
fn troubled_equals_calm() {
    let lab = Lab::with(&image());
    let cut = Cut { segment: Some(3), ..Cut::blocks([8, 9, 10]) };
    let floor = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let tally = Tally::default();
    let case = |steps: &str, seed, weather, tally: &Tally| Case {
        plan: Arc::new(lab.plan(&lab.job(steps, [8, 9, 10]), &cut)),
        floor: Arc::clone(&floor),
        seed,
        weather,
        tally: tally.clone(),
    };
    let calm = STEPS.map(|steps| {
        let (calm, starts) = case(steps, 0, CALM, &Tally::default()).run();
        assert_eq!(starts, 1);
        assert!(
            calm.contains_key("labels.zarr/zarr.json") && calm.contains_key("objects.parquet"),
            "{:?}",
            calm.keys()
        );
        calm
    });
    let seeds = seed::seeds(ROUNDS);
    for &seed in &seeds {
        let at = seed as usize % STEPS.len();
        let weather = WEATHERS[(seed / 3) as usize % WEATHERS.len()];
        let (troubled, starts) = case(STEPS[at], seed, weather, &tally).run();
        let keys = |answers: &Answers| answers.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&troubled), keys(&calm[at]), "seed {seed}");
        for (key, bytes) in &troubled {
            assert!(*bytes == calm[at][key], "seed {seed}: {key} differs from the calm run's");
        }
        assert!(!tally.of().contains_key(faulty::WRITTEN_LATE), "seed {seed}: {:?}", tally.of());
        eprintln!("seed {seed}: {starts} starts, {} faults so far", tally.of().values().sum::<u64>());
    }
    let found = tally.of();
    let sum: u64 = found.values().sum();
    eprintln!("{sum} faults in {} runs: {found:#?}", seeds.len());
    if seeds.len() as u64 >= ROUNDS {
        assert!(sum >= FAULTS_LEAST, "only {sum} faults: {found:?}");
        for fault in faulty::ALL.iter().chain(&crew::ALL) {
            assert!(found.contains_key(fault), "{fault} never happened: {found:?}");
        }
    }
}
