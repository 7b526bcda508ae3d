//! Every key a run reads or writes below its output, built here and nowhere else.
//!
//! ```text
//! labels.zarr/  result.zarr/  objects.parquet  contacts.parquet  histogram.json  run.json      what the user opens
//! <name>.zarr/  <name>.parquet  <name>-contacts.parquet                                        what a step saved
//! .voxmill/plan.json                                  created once; two plans never share an output
//! .voxmill/lock                                       held by the one coordinator, on a disk
//! .voxmill/leases/<lease>.json                        created once, by the coordinator that holds the output in a bucket
//! .voxmill/leases/<lease>.beat                        replaced every few seconds, as long as it lives
//! .voxmill/leases/<lease>.until-<ms>                  nothing that was sent under the lease is written after that moment
//! .voxmill/leases/<lease>.deletes                     there while its holder deletes
//! .voxmill/probe/object                               tries what the store can do; gone at once
//! .voxmill/receipts/<stage fingerprint>/<first unit>  created once, after the data it speaks of
//! .voxmill/state/<stage fingerprint>                  what was decided before the stage
//! .voxmill/checkpoint/<lease>.json                    how far the run is; written over every few seconds
//! .voxmill/scratch/<stage fingerprint>/<unit>         one object per unit
//! .voxmill/given.json                               what an unfinished run took over from the one before it
//! .voxmill/manifest.json                              what stays of plan and receipts after success
//! ```

/// The folder of the run's own state.
pub const RUN: &str = ".voxmill";
/// The plan.
pub const PLAN: &str = ".voxmill/plan.json";
/// The lock file of a coordinator on a local disk.
pub const LOCK: &str = ".voxmill/lock";
/// Who holds the output, and who held it, where it is in a bucket.
pub const LEASES: &str = ".voxmill/leases";
/// The folder of what the probe writes.
pub const PROBE: &str = ".voxmill/probe";
/// What the probe writes.
pub const PROBE_OBJECT: &str = ".voxmill/probe/object";
/// What is never there: a store that can't say so is not to be trusted.
pub const MISSING: &str = ".voxmill-surely-missing";
/// All receipts.
pub const RECEIPTS: &str = ".voxmill/receipts";
/// All states.
pub const STATES: &str = ".voxmill/state";
/// All scratch objects.
pub const SCRATCH: &str = ".voxmill/scratch";
/// All checkpoints.
pub const CHECKPOINTS: &str = ".voxmill/checkpoint";
/// The manifest of a finished run.
pub const MANIFEST: &str = ".voxmill/manifest.json";

/// What an unfinished run took over from the one before it.
pub const GIVEN: &str = ".voxmill/given.json";

/// The label image (an OME-Zarr group).
pub const LABELS: &str = "labels.zarr";
/// The image of a job that ends otherwise (an OME-Zarr group).
pub const IMAGE: &str = "result.zarr";
/// The object table.
pub const OBJECTS: &str = "objects.parquet";
/// Which objects touch.
pub const CONTACTS: &str = "contacts.parquet";
/// The histogram and statistics of the input.
pub const HISTOGRAM: &str = "histogram.json";
/// Provenance.
pub const RUN_REPORT: &str = "run.json";

/// The receipts of a stage.
pub fn receipts(stage: &str) -> String {
    format!("{RECEIPTS}/{stage}")
}

/// What a worker of that name writes to see whether it may.
pub fn probe_of(worker: &str) -> String {
    format!("{PROBE}/{worker}")
}

/// The lease of a number.
pub fn lease(number: u64) -> String {
    format!("{LEASES}/{number:012}.json")
}

/// What the holder of a lease replaces as long as it lives.
pub fn lease_beat(number: u64) -> String {
    format!("{LEASES}/{number:012}.beat")
}

/// Says that attempts sent under a lease may write until a moment, in milliseconds since 1970. The moment is in the key,
/// and there is one key for each, so that no late write can move it back.
pub fn lease_until(number: u64, ms: u64) -> String {
    format!("{LEASES}/{number:012}.until-{ms:020}")
}

/// Says that the holder of a lease has begun to delete, and not ended.
pub fn lease_deletes(number: u64) -> String {
    format!("{LEASES}/{number:012}.deletes")
}

/// What a key among the leases is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKey {
    /// The lease of this number.
    Lease(u64),
    /// The beat of that lease.
    Beat(u64),
    /// Attempts of that lease may write until this many milliseconds since 1970.
    Until(u64, u64),
    /// The holder of that lease has begun to delete, and not ended.
    Deletes(u64),
}

/// True for the whole path of an object that is scratch, wherever its output lies.
pub fn is_scratch(path: &str) -> bool {
    path.split_once(SCRATCH)
        .is_some_and(|(before, after)| (before.is_empty() || before.ends_with('/')) && after.starts_with('/'))
}

/// The inverse of [`lease`], [`lease_beat`], [`lease_until`] and [`lease_deletes`]; none for what is none of them.
pub fn lease_key(key: &str) -> Option<LeaseKey> {
    let (number, what) = key.strip_prefix(LEASES)?.strip_prefix('/')?.split_once('.')?;
    let number = number.parse().ok()?;
    Some(match what {
        "json" => LeaseKey::Lease(number),
        "beat" => LeaseKey::Beat(number),
        "deletes" => LeaseKey::Deletes(number),
        until => LeaseKey::Until(number, until.strip_prefix("until-")?.parse().ok()?),
    })
}

/// The receipt of a stage's segment that starts at `first`.
pub fn receipt(stage: &str, first: u64) -> String {
    format!("{RECEIPTS}/{stage}/{first:012}.json")
}

/// The first unit of a receipt of this name.
pub fn first_of(receipt: &str) -> Option<u64> {
    receipt.strip_suffix(".json")?.parse().ok()
}

/// What was decided before a stage.
pub fn state(stage: &str) -> String {
    format!("{STATES}/{stage}.json")
}

/// How far the coordinator with this lease is.
pub fn checkpoint(lease: u64) -> String {
    format!("{CHECKPOINTS}/{lease:012}.json")
}

/// The scratch object of a stage's unit.
pub fn scratch(stage: &str, unit: u64) -> String {
    format!("{SCRATCH}/{stage}/{unit:012}")
}

/// The partial histogram of units `first..end` of a stage. Two attempts at a segment may end at different units, and
/// the receipt of only one of them stands: the end is in the key, so that neither writes over what the other counted.
pub fn tally(stage: &str, first: u64, end: u64) -> String {
    format!("{SCRATCH}/{stage}/tally-{first:012}-{end:012}")
}

/// Which contributors' rows fall into which range of a ranking stage.
pub fn sources(stage: &str) -> String {
    format!("{SCRATCH}/{stage}/sources")
}

/// The joined histograms of a stage.
pub fn digest(stage: &str) -> String {
    format!("{SCRATCH}/{stage}/digest")
}

/// The versions of what a stage has read.
pub fn reads(stage: &str) -> String {
    format!("{SCRATCH}/{stage}/reads.json")
}

/// The array of an image that is kept for later stages only (before a barrier, where that is cheaper than computing it
/// again, and after the labels of a step have been merged). Its chunks depend on the blocks.
pub fn scratch_image(image: &str, block: [usize; 3]) -> String {
    let [z, y, x] = block;
    format!("{SCRATCH}/image-{image}-{z}x{y}x{x}")
}

/// Working files of a unit that did not fit in memory; gone when the unit is done.
pub fn overflow(stage: &str, unit: u64) -> String {
    format!("{SCRATCH}/{stage}/overflow-{unit:012}")
}

/// The group of a saved image.
pub fn saved_group(name: &str) -> String {
    format!("{name}.zarr")
}

/// The object table of a saved step.
pub fn saved_objects(name: &str) -> String {
    format!("{name}.parquet")
}

/// The contacts of a saved step.
pub fn saved_contacts(name: &str) -> String {
    format!("{name}-contacts.parquet")
}

/// The array of level `level` in an output group.
pub fn level(group: &str, level: usize) -> String {
    format!("{group}/{level}")
}
