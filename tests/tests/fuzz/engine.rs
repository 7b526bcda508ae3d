//! A small fuzzer of our own: valid inputs, mutated without end from one seed, each given to a function that must not
//! panic, hang, or take memory without bound.
//!
//! It knows nothing of what the function covers, but for what the function says: an input that is told something nobody
//! was told before is kept, and mutated further. Error messages are good enough a map of a parser.
//!
//! `VOXMILL_FUZZ_SECONDS` is how long each target is at it, `VOXMILL_FUZZ_SEED` where it starts, and `VOXMILL_FUZZ_INPUT`
//! a file to give to one target instead, once. What was found lies in `target/tmp/fuzz`, and moves to
//! `tests/fixtures/fuzz/<target>` when it is fixed: those are tried first, every time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Seconds for one input, after which it counts as one that hangs: far more than any takes on a busy machine.
const HANG_SECONDS: u64 = 20;
/// Inputs that are kept for what they were told.
const KEPT_MAX: usize = 3000;

/// What is fuzzed.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Valid inputs, and some that are nearly so.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Words that mean something.
    pub(crate) words: &'static [&'static str],
    /// Bytes that may be held at once for one input.
    pub(crate) memory_bytes: usize,
    /// Inputs are no longer than this.
    pub(crate) length_max: usize,
}

impl Target {
    /// Fuzzes for its time; `run` gives what was said of the input.
    pub(crate) fn check(&self, run: impl Fn(&[u8]) -> String) {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let _alone = alone();
        let mut table = Table::new(self);
        if let Ok(path) = std::env::var("VOXMILL_FUZZ_INPUT") {
            eprintln!("{}", table.give(&fs::read(path).unwrap(), &run));
            return table.end();
        }
        let seed = number("VOXMILL_FUZZ_SEED").unwrap_or(1);
        table.seed = seed;
        let time = Duration::from_secs(number("VOXMILL_FUZZ_SECONDS").unwrap_or(4));
        let start = Instant::now();
        let (mut said, mut kept) = (HashSet::new(), Vec::new());
        for input in found_before(self.name).into_iter().chain(self.seeds.iter().cloned()) {
            said.insert(gist(&table.give(&input, &run)));
            kept.push(input);
        }
        let seeds = said.len();
        while start.elapsed() < time {
            let mut dice = Dice(seed ^ (table.given << 20));
            let mut input = kept[dice.below(kept.len())].clone();
            for _ in 0..1 + dice.below(4) {
                self.mutate(&mut input, &kept, &mut dice);
            }
            input.truncate(self.length_max);
            if said.insert(gist(&table.give(&input, &run))) && kept.len() < KEPT_MAX {
                kept.push(input);
            }
        }
        let (name, said, given, mib) = (self.name, said.len(), table.given, table.peak >> 20);
        let ms = table.slowest.0.as_millis();
        eprintln!(
            "{name}: {given} inputs were told {said} things, the seeds {seeds}, in {mib} MiB and {ms} ms at most"
        );
        table.end();
    }

    fn mutate(&self, input: &mut Vec<u8>, kept: &[Vec<u8>], dice: &mut Dice) {
        const BYTES: [u8; 12] = [0, 1, 2, 7, 8, 0x1f, 0x7f, 0x80, 0xfe, 0xff, b'0', b'"'];
        const NUMBERS: [&str; 16] = [
            "0",
            "-1",
            "1",
            "2",
            "3",
            "255",
            "65536",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "99999999999999999999999",
            "1e308",
            "-1e400",
            "nan",
            "0.5",
        ];
        let at = dice.below(input.len() + 1);
        let some = |from: usize, dice: &mut Dice| (from + 1 + dice.below(32)).min(input.len());
        match dice.below(12) {
            // A bit.
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            // A byte.
            1 if at < input.len() => input[at] = BYTES[dice.below(BYTES.len())],
            // A number of some bytes, either way round.
            2 | 3 => {
                let width = [2, 4, 8][dice.below(3)];
                let value = match dice.below(4) {
                    0 => u64::MAX >> dice.below(64),
                    1 => 1 << dice.below(64),
                    2 => dice.below(300) as u64,
                    _ => (1u64 << dice.below(64)).wrapping_neg(),
                };
                let bytes = if dice.below(2) == 0 {
                    value.to_le_bytes()
                } else {
                    value.rotate_right(64 - 8 * width as u32).to_be_bytes()
                };
                if let Some(place) = input.get_mut(at..at + width) {
                    let from = if dice.below(2) == 0 { 0 } else { 8 - width };
                    place.copy_from_slice(&bytes[from..from + width]);
                }
            }
            // Gone from here on, or some of it.
            4 if dice.below(4) == 0 => input.truncate(at),
            4 | 5 => drop(input.drain(at.min(input.len())..some(at, dice))),
            // Twice.
            6 => {
                let again = input[at..some(at, dice)].to_vec();
                input.splice(at..at, again);
            }
            // Another input's middle.
            7 => {
                let other = &kept[dice.below(kept.len())];
                let from = dice.below(other.len() + 1);
                let part = other[from..(from + 1 + dice.below(200)).min(other.len())].to_vec();
                let over = if dice.below(2) == 0 { (at + part.len()).min(input.len()) } else { at };
                input.splice(at..over, part);
            }
            // A number in digits.
            8 | 9 => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let Some(start) = (at..input.len()).find(|i| is_digit(&input[*i])) else { return };
                let end = (start..input.len()).find(|i| !is_digit(&input[*i])).unwrap_or(input.len());
                let number = NUMBERS[dice.below(NUMBERS.len())];
                input.splice(start..end, number.bytes());
            }
            // A word.
            _ if !self.words.is_empty() => {
                let word = self.words[dice.below(self.words.len())];
                let over = if dice.below(2) == 0 { (at + word.len()).min(input.len()) } else { at };
                input.splice(at..over, word.bytes());
            }
            _ => {}
        }
    }
}

/// Inputs that once did harm.
fn found_before(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What was said, but for numbers, and for what is quoted of the input.
fn gist(said: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let (mut in_number, mut quote) = (false, None);
    for c in said.chars().take(2000) {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => continue,
            None if c == '`' || c == '"' => quote = Some(c),
            None => {}
        }
        let number = c.is_ascii_digit() || !c.is_ascii();
        if !(number && in_number) {
            if number { '0' } else { c }.hash(&mut hasher);
        }
        in_number = number;
    }
    hasher.finish()
}

/// Where inputs are given, one after the other, and watched.
struct Table<'a> {
    target: &'a Target,
    seed: u64,
    given: u64,
    /// The input under way, for the case that the process dies of it.
    current: File,
    current_path: PathBuf,
    peak: usize,
    /// The longest time, and of which input; one of more than a second is saved as `<target>.slowest`.
    slowest: (Duration, u64),
    /// What did harm, by the gist of it.
    harms: BTreeMap<u64, String>,
}

impl<'a> Table<'a> {
    fn new(target: &'a Target) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&folder).unwrap();
        let current_path = folder.join(format!("{}.current", target.name));
        let current = File::create(&current_path).unwrap();
        let (name, path) = (target.name, current_path.clone());
        std::panic::set_hook(Box::new(|info| {
            *PANIC.lock().unwrap_or_else(|e| e.into_inner()) = info.to_string();
        }));
        std::thread::spawn(move || watch(name, &path));
        Self {
            target,
            seed: 0,
            given: 0,
            current,
            current_path,
            peak: 0,
            slowest: (Duration::ZERO, 0),
            harms: BTreeMap::new(),
        }
    }

    fn give(&mut self, input: &[u8], run: &impl Fn(&[u8]) -> String) -> String {
        self.current
            .rewind()
            .and_then(|()| self.current.set_len(0))
            .and_then(|()| self.current.write_all(input))
            .unwrap();
        self.given += 1;
        GIVEN.store(self.given, Ordering::Relaxed);
        let before = ALIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        LIMIT.store(before + self.target.memory_bytes, Ordering::Relaxed);
        let start = busy();
        let said = catch_unwind(AssertUnwindSafe(|| run(input)));
        let took = busy() - start;
        if took > self.slowest.0 {
            self.slowest = (took, self.given);
            if took > Duration::from_secs(1) {
                fs::write(self.current_path.with_extension("slowest"), input).unwrap();
            }
        }
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        GIVEN.store(0, Ordering::Relaxed);
        let held = PEAK.load(Ordering::Relaxed) - before;
        self.peak = self.peak.max(held);
        let harm = match said {
            Err(_) => PANIC.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            Ok(_) if held > self.target.memory_bytes => format!("it takes {} MiB", held >> 20),
            Ok(said) => return said,
        };
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let saved = self.current_path.with_extension(format!("{:08x}", hasher.finish() as u32));
        let told = format!("input {}, saved as {}: {harm}", self.given, saved.display());
        // One of each is enough, and there may be others behind it.
        self.harms.entry(gist(&harm)).or_insert_with(|| {
            fs::write(&saved, input).unwrap();
            told
        });
        harm
    }
}

impl Table<'_> {
    fn end(self) {
        let _ = std::panic::take_hook();
        let _ = fs::remove_file(&self.current_path);
        let harms: Vec<String> = self.harms.into_values().collect();
        assert!(harms.is_empty(), "{}, seed {}:\n{}", self.target.name, self.seed, harms.join("\n"));
    }
}

/// How long this thread has computed, whoever else wanted the processor.
fn busy() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is every thread's own, and the time is written where there is room for one.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

static PANIC: Mutex<String> = Mutex::new(String::new());
/// The number of the input under way; 0 between inputs.
static GIVEN: AtomicU64 = AtomicU64::new(0);

/// Ends the process when one input takes too long.
fn watch(name: &str, path: &Path) {
    let mut seen = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let given = GIVEN.load(Ordering::Relaxed);
        if given == 0 || given != seen.0 {
            seen = (given, Instant::now());
        } else if seen.1.elapsed() > Duration::from_secs(HANG_SECONDS) {
            // Written past the harness, which would keep it for the end.
            let _ = writeln!(std::io::stderr(), "{name} hangs on input {given}, which is in {}", path.display());
            std::process::abort();
        }
    }
}

/// One target at a time where the harness runs tests side by side in one process, so that memory can be counted.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Counts what is held, and ends the process before much more than the limit is asked for at once.
struct Counting;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static TOLD: AtomicBool = AtomicBool::new(false);

impl Counting {
    fn more(bytes: usize) {
        let alive = ALIVE.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        PEAK.fetch_max(alive, Ordering::Relaxed);
        if alive > LIMIT.load(Ordering::Relaxed).saturating_add(1 << 30) && !TOLD.swap(true, Ordering::Relaxed) {
            LIMIT.store(usize::MAX, Ordering::Relaxed);
            let trace = std::backtrace::Backtrace::force_capture();
            let _ = writeln!(
                std::io::stderr(),
                "{bytes} bytes were asked for at once; the input is in target/tmp/fuzz\n{trace}"
            );
            std::process::abort();
        }
    }
}

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::more(size);
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Random numbers, the same everywhere (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0 to below `n`, or 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % (n.max(1) as u64)) as usize
    }
}
