#![allow(clippy::unwrap_used)]
//! Who gets an output, when, and what happens to who had it: with time that is set, over a store in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use pipeline::{Kind, layout};

use super::*;

/// One coordinator's way to the bucket that all share.
#[derive(Debug)]
struct Way {
    bucket: Arc<InMemory>,
    /// Every request fails.
    is_down: AtomicBool,
    /// The next write of this key takes effect, and its answer is lost.
    loses: Mutex<Option<Path>>,
    puts: AtomicU64,
}

impl Way {
    fn to(bucket: &Arc<InMemory>) -> (Arc<Self>, Store) {
        let way = Arc::new(Self {
            bucket: Arc::clone(bucket),
            is_down: AtomicBool::new(false),
            loses: Mutex::default(),
            puts: AtomicU64::new(0),
        });
        let store = Store::over(Arc::clone(&way) as Arc<dyn ObjectStore>, "memory://lab");
        (way, store)
    }

    fn cut(&self) -> object_store::Result<()> {
        if self.is_down.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }
}

fn gone() -> object_store::Error {
    object_store::Error::Generic { store: "Way", source: "the connection is gone".into() }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a way")
    }
}

#[async_trait]
impl ObjectStore for Way {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.cut()?;
        self.puts.fetch_add(1, Ordering::SeqCst);
        let put = self.bucket.put_opts(at, bytes, opts).await;
        if self.loses.lock().unwrap().take_if(|key| key == at).is_some() { Err(gone()) } else { put }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.cut()?;
        self.bucket.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.bucket.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.bucket.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

/// A day in 2025, and as much later as the paused time has come; `ahead` milliseconds later still.
fn clock(ahead: &Arc<AtomicU64>) -> Clock {
    let (start, ahead) = (Instant::now(), Arc::clone(ahead));
    Clock::new(move || Moment(1_760_000_000_000 + ahead.load(Ordering::SeqCst) + start.elapsed().as_millis() as u64))
}

fn right_clock() -> Clock {
    clock(&Arc::default())
}

fn bucket() -> Arc<InMemory> {
    Arc::default()
}

async fn take(store: &Store) -> Result<Lease> {
    Lease::take(store, right_clock(), &|_| {}).await
}

/// Seconds that `work` takes.
async fn seconds<T>(work: impl Future<Output = T>) -> (T, u64) {
    let start = Instant::now();
    (work.await, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn of_two_contenders_one_gets_it() {
    let bucket = bucket();
    let ((_, one), (_, other)) = (Way::to(&bucket), Way::to(&bucket));
    let (one, other) = tokio::join!(take(&one), take(&other));
    let (got, refused) = if let Ok(got) = one { (got, other.unwrap_err()) } else { (other.unwrap(), one.unwrap_err()) };
    assert_eq!(got.number(), 1);
    assert_eq!(refused.kind, Kind::Invalid);
    let process = std::process::id();
    assert!(refused.message.starts_with(&format!("memory://lab is busy: another voxmill (process {process} on ")));
    assert!(refused.message.ends_with(" is working on it"), "{refused}");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(got.guard().check(), Ok(()), "it is still held after an hour");
    assert_eq!(take(&Way::to(&bucket).1).await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_waited_for() {
    let bucket = bucket();
    let (_, store) = Way::to(&bucket);
    drop(take(&store).await.unwrap());
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().unwrap().push(line.to_owned());
    let (next, waited) = seconds(Lease::take(&store, right_clock(), &tell)).await;
    let next = next.unwrap();
    assert_eq!((next.number(), waited), (2, SILENCE.as_secs() + 1));
    let told = told.into_inner().unwrap();
    assert!(told.len() == 1 && told[0].ends_with("had this output; waiting 30 s to see that it has ended"), "{told:?}");

    // What the dead one had sent last may still be on its way.
    let told = Mutex::new(Vec::new());
    let (quiet, waited) = seconds(next.quiesce(&|line| told.lock().unwrap().push(line.to_owned()))).await;
    quiet.unwrap();
    assert_eq!(waited, (SIGNATURE + SKEW).as_secs());
    let expected = "waiting 16 min before anything is deleted: what an earlier run has sent may be written until then";
    assert_eq!(told.into_inner().unwrap(), [expected]);
    assert_eq!(seconds(next.quiesce(&|_| {})).await, (Ok(()), 0), "once is enough");
    let left = Leases::list(&store).await.unwrap();
    assert_eq!((left.highest, left.lower, left.until), (2, vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_slow_holder_that_comes_back_writes_nothing_more() {
    let bucket = bucket();
    let ((way, slow), (_, quick)) = (Way::to(&bucket), Way::to(&bucket));
    let lease = take(&slow).await.unwrap();
    let guarded = slow.guarded(lease.guard());
    guarded.put("a", "before".into()).await.unwrap();
    way.is_down.store(true, Ordering::SeqCst);
    let (next, lost) = tokio::join!(take(&quick), async {
        sleep(PATIENCE - PERIOD - LOOK).await;
        assert_eq!(lease.guard().check(), Ok(()));
        timeout(2 * SILENCE, lease.lost()).await.expect("it goes on for ever")
    });
    assert_eq!(next.unwrap().number(), 2);
    assert_eq!(lost.kind, Kind::Unavailable);
    assert!(lost.message.contains("nothing was heard from its store for 20 seconds"), "{lost}");
    way.is_down.store(false, Ordering::SeqCst);
    assert_eq!(guarded.put("a", "after".into()).await, Err(lost.clone()));
    assert_eq!(guarded.delete("a").await, Err(lost.clone()));
    assert!(guarded.upload("b").await.is_err());
    assert_eq!(lease.promise(Moment(0)).await, Err(lost));
    assert_eq!(&slow.get("a").await.unwrap().unwrap().bytes[..], b"before");
}

/// Not long enough to be given up, and back in time.
#[tokio::test(start_paused = true)]
async fn a_short_silence_does_no_harm() {
    let bucket = bucket();
    let (way, store) = Way::to(&bucket);
    let lease = take(&store).await.unwrap();
    for _ in 0..10 {
        way.is_down.store(true, Ordering::SeqCst);
        sleep(Duration::from_secs(10)).await;
        way.is_down.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(7)).await;
        assert_eq!(lease.guard().check(), Ok(()));
    }
    assert_eq!(take(&Way::to(&bucket).1).await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_claim_is_looked_up() {
    let bucket = bucket();
    let (way, store) = Way::to(&bucket);
    *way.loses.lock().unwrap() = Some(layout::lease(1).into());
    let (lease, waited) = seconds(take(&store)).await;
    assert_eq!((lease.unwrap().number(), waited), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_released_is_not_waited_for() {
    let (_, store) = Way::to(&bucket());
    for number in 1..4 {
        let (lease, waited) = seconds(take(&store)).await;
        let lease = lease.unwrap();
        assert_eq!((lease.number(), waited), (number, 0));
        assert_eq!(seconds(lease.quiesce(&|_| {})).await, (Ok(()), 0));
        lease.promise(right_clock().now().plus_ms(900_000)).await.unwrap();
        lease.release(true).await;
    }
    // An attempt that has not been heard of.
    let lease = take(&store).await.unwrap();
    lease.promise(right_clock().now().plus_ms(900_000)).await.unwrap();
    lease.release(false).await;
    let lease = take(&store).await.unwrap();
    let (quiet, waited) = seconds(lease.quiesce(&|_| {})).await;
    assert_eq!((quiet, waited), (Ok(()), (Duration::from_secs(900) + STEP + SIGNATURE + SKEW).as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_kept_in_the_store_before_it_is_relied_on() {
    let bucket = bucket();
    let (way, store) = Way::to(&bucket);
    let lease = take(&store).await.unwrap();
    // The first beat.
    sleep(LOOK).await;
    let before = way.puts.load(Ordering::SeqCst);
    let clock = right_clock();
    for _ in 0..500 {
        let not_after = clock.now().plus_ms(900_000);
        lease.promise(not_after).await.unwrap();
        assert!(Leases::list(&store).await.unwrap().last_write().unwrap() >= not_after);
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(way.puts.load(Ordering::SeqCst) - before, 1 + 1, "one promise and one beat");
    sleep(Duration::from_secs(600)).await;
    lease.promise(clock.now().plus_ms(900_000)).await.unwrap();
    assert_eq!(Leases::list(&store).await.unwrap().until.len(), 1, "the later one is enough");

    way.is_down.store(true, Ordering::SeqCst);
    assert!(lease.promise(clock.now().plus_ms(9_000_000)).await.is_err());
    way.is_down.store(false, Ordering::SeqCst);
    // Somebody took over while the promise was on its way, and could not see it.
    lease::claim(&store, 2, &Holder { host: "lab8".into(), process: 3, token: "other".into() }).await.unwrap();
    let refused = lease.promise(clock.now().plus_ms(9_000_000)).await.unwrap_err();
    assert_eq!(refused.message, "memory://lab is busy: another voxmill (process 3 on lab8) took it over");
    assert_eq!(lease.lost().await, refused);
}

/// While a machine sleeps, its monotonic clock may stand still.
#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_has_lost_the_output() {
    let (_, store) = Way::to(&bucket());
    let ahead = Arc::default();
    let lease = Lease::take(&store, clock(&ahead), &|_| {}).await.unwrap();
    ahead.store(3_600_000, Ordering::SeqCst);
    assert_eq!(lease.guard().check().unwrap_err().kind, Kind::Unavailable);
    sleep(PERIOD * 3).await;
    assert_eq!(lease.guard().check().unwrap_err().kind, Kind::Unavailable, "once lost, lost for good");
}

/// What a holder was deleting when it died may be deleted later still, so even who resumes waits.
#[tokio::test(start_paused = true)]
async fn what_was_being_deleted_is_waited_for() {
    let (_, store) = Way::to(&bucket());
    let lease = take(&store).await.unwrap();
    let (deleted, waited) = seconds(lease.deleting(&|_| {}, async { Ok(7) })).await;
    assert_eq!((deleted, waited), (Ok(7), 0));
    let failed = lease.deleting(&|_| {}, async { Err::<(), _>(Error::unavailable("half way")) }).await;
    assert_eq!(failed.unwrap_err().message, "half way");
    drop(lease);
    let (lease, waited) = seconds(take(&store)).await;
    assert_eq!(waited, (SILENCE + LOOK + SIGNATURE + SKEW).as_secs());
    drop(lease);
    let (lease, waited) = seconds(take(&store)).await;
    assert_eq!(waited, (SILENCE + LOOK).as_secs(), "once is enough");
    let (_, waited) = seconds(lease.unwrap().deleting(&|_| {}, async { Ok(()) })).await;
    assert_eq!(waited, (SIGNATURE + SKEW).as_secs(), "its own requests are waited for none the less");
}

/// A number that was used, given back and forgotten is no way in.
#[tokio::test(start_paused = true)]
async fn a_number_below_the_highest_is_none() {
    let (_, store) = Way::to(&bucket());
    for _ in 0..3 {
        take(&store).await.unwrap().release(true).await;
    }
    let leases = Leases::list(&store).await.unwrap();
    assert_eq!((leases.highest, leases.lower), (3, vec![]), "the highest stays, so that numbers only grow");
    // One that was slow between looking and claiming.
    assert!(lease::claim(&store, 1, &myself()).await.unwrap());
    assert_eq!(take(&store).await.unwrap().number(), 4);
    assert!(Leases::list(&store).await.unwrap().lower.is_empty());
}
