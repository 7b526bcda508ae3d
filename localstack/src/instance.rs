//! One instance: a process with its Runtime API, driven through its start and one invocation after another, within its
//! limits of time and memory.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::process::{self, Process};
use crate::runtime_api::{self, Desk, Event, Said};

/// How often memory is looked at. The kernel keeps the peak, so that nothing between two looks is missed; only the end
/// comes a little later than it would.
const SAMPLE: Duration = Duration::from_millis(20);

/// What is kept of the log of an invocation; more than is ever sent back.
const KEEP_BYTES: usize = 64 * 1024;

/// What an instance is made from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    /// A folder for the instance alone, which goes with it.
    pub(crate) scratch: PathBuf,
    /// All of its environment but the address of the Runtime API.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) memory_bytes: u64,
    /// Whether it is stopped between invocations.
    pub(crate) freeze: bool,
    /// Where everything it prints goes.
    pub(crate) log: Option<Arc<Mutex<File>>>,
}

/// How an instance came to its end, or didn't come to its start.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Its process ended; in Lambda's words.
    Exit(String),
    /// It used more memory than it has.
    OutOfMemory,
    /// It took too long.
    Timeout,
    /// It said that it couldn't start.
    InitError(Bytes, String),
    /// It was killed on demand.
    Killed,
    /// It could not be started at all.
    Spawn(io::Error),
}

/// What came of an invocation that the instance outlived.
#[derive(Debug)]
pub(crate) enum Answer {
    Response(Bytes),
    TooLarge,
    Error(Bytes, String),
}

/// What an instance has printed since the invocation began.
#[derive(Debug, Default)]
pub(crate) struct Output {
    text: Mutex<Vec<u8>>,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to it.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut text = self.lock();
        text.extend_from_slice(bytes);
        if text.len() > 2 * KEEP_BYTES {
            let surplus = text.len() - KEEP_BYTES;
            text.drain(..surplus);
        }
    }

    /// Takes what there is, and begins anew.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock())
    }
}

/// An instance that runs, or waits.
pub(crate) struct Instance {
    pub(crate) version: String,
    /// Its name in the log of what ran.
    pub(crate) name: String,
    /// When it last had something to do.
    pub(crate) idle_since: Instant,
    /// The most memory it was seen to use.
    pub(crate) peak_bytes: u64,
    pub(crate) output: Arc<Output>,
    recipe: Recipe,
    process: Arc<Process>,
    heard: mpsc::UnboundedReceiver<Said>,
    waiting: Option<oneshot::Sender<Event>>,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    /// Ends it when asked; whoever asks for all instances to be killed has the other end.
    doom: Arc<tokio::sync::Notify>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.process.kill();
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.recipe.scratch);
    }
}

impl Instance {
    /// Starts a process; it is not ready yet.
    pub(crate) async fn start(
        recipe: Recipe,
        version: String,
        name: String,
        doom: Arc<tokio::sync::Notify>,
    ) -> Result<Self, Broken> {
        Self::spawn(recipe, version, name, doom).await.map_err(Broken::Spawn)
    }

    async fn spawn(recipe: Recipe, version: String, name: String, doom: Arc<tokio::sync::Notify>) -> io::Result<Self> {
        std::fs::create_dir_all(&recipe.scratch)?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (said, heard) = mpsc::unbounded_channel();
        let router = runtime_api::router(Desk::new(said.clone()));
        let mut environment = recipe.environment.clone();
        environment.push(("AWS_LAMBDA_RUNTIME_API".to_owned(), address.to_string()));
        environment.push(("TMPDIR".to_owned(), recipe.scratch.display().to_string()));
        let folder = recipe.program.parent().unwrap_or(&recipe.scratch).to_owned();
        let (process, pipe) = Process::start(&recipe.program, &folder, &environment, move |status| {
            let _ = said.send(Said::Exited(status));
        })?;
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let output = Arc::new(Output::default());
        let (flush, flushes) = mpsc::unbounded_channel();
        tokio::spawn(listen(pipe, output.clone(), recipe.log.clone(), flushes));
        Ok(Self {
            version,
            name,
            idle_since: Instant::now(),
            peak_bytes: 0,
            output,
            recipe,
            process,
            heard,
            waiting: None,
            flush,
            server,
            doom,
        })
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Whether it can take an event.
    pub(crate) fn fit(&self) -> bool {
        !self.process.gone() && self.waiting.as_ref().is_some_and(|waiting| !waiting.is_closed())
    }

    /// Waits until it asks for its first event.
    pub(crate) async fn ready(&mut self, limit: Duration) -> Result<(), Broken> {
        let deadline = Instant::now() + limit;
        loop {
            match self.hear(deadline, None).await? {
                Said::Next(waiting) => {
                    self.rest(waiting).await;
                    return Ok(());
                }
                Said::InitError(body, kind) => {
                    self.flushed().await;
                    return Err(Broken::InitError(body, kind));
                }
                _ => {}
            }
        }
    }

    /// Has it carry out one event. On an error it is of no more use.
    pub(crate) async fn invoke(
        &mut self,
        event: Event,
        limit: Duration,
        kill_after: Option<Duration>,
    ) -> Result<Answer, Broken> {
        let start = Instant::now();
        let deadline = start + limit;
        let kill = kill_after.map(|after| start + after);
        self.process.thaw();
        let Some(waiting) = self.waiting.take() else {
            return Err(Broken::Exit("Runtime exited without providing a reason".to_owned()));
        };
        // If it has just ended, that is what is heard next.
        let _ = waiting.send(event);
        let mut answer = None;
        loop {
            let said = match self.hear(deadline, kill.filter(|_| answer.is_none())).await {
                Ok(said) => said,
                // The answer was given; that the process didn't outlive it is the next one's cold start.
                Err(broken) => return answer.ok_or(broken),
            };
            match said {
                Said::Response(bytes) => answer = Some(Answer::Response(bytes)),
                Said::TooLarge => answer = Some(Answer::TooLarge),
                Said::Error(bytes, kind) => answer = Some(Answer::Error(bytes, kind)),
                Said::Next(waiting) => {
                    self.rest(waiting).await;
                    // A function that asks for the next event without an answer has answered nothing.
                    return Ok(answer.unwrap_or_else(|| Answer::Response(Bytes::new())));
                }
                Said::InitError(..) | Said::Exited(_) => {}
            }
        }
    }

    /// The next thing it says, unless it is ended before: by its deadline, its memory, on demand, or by itself.
    async fn hear(&mut self, deadline: Instant, kill: Option<Instant>) -> Result<Said, Broken> {
        let mut sample = tokio::time::interval(SAMPLE);
        let doom = self.doom.clone();
        let doomed = doom.notified();
        tokio::pin!(doomed);
        doomed.as_mut().enable();
        let ended = loop {
            tokio::select! {
                said = self.heard.recv() => match said {
                    Some(Said::Exited(status)) => {
                        self.flushed().await;
                        return Err(Broken::Exit(process::describe(status)));
                    }
                    Some(said) => {
                        self.look();
                        if self.peak_bytes > self.recipe.memory_bytes {
                            break Broken::OutOfMemory;
                        }
                        return Ok(said);
                    }
                    None => break Broken::Exit("Runtime exited without providing a reason".to_owned()),
                },
                _ = tokio::time::sleep_until(deadline.into()) => break Broken::Timeout,
                _ = tokio::time::sleep_until(kill.unwrap_or(deadline).into()), if kill.is_some() => break Broken::Killed,
                _ = &mut doomed => break Broken::Killed,
                _ = sample.tick() => {
                    self.look();
                    if self.peak_bytes > self.recipe.memory_bytes {
                        break Broken::OutOfMemory;
                    }
                }
            }
        };
        self.process.kill();
        // Until it is gone: what it wrote elsewhere must not go on after its end was told.
        while let Some(said) = self.heard.recv().await {
            if matches!(said, Said::Exited(_)) {
                break;
            }
        }
        self.flushed().await;
        Err(ended)
    }

    fn look(&mut self) {
        if let Some(bytes) = self.process.peak_bytes() {
            self.peak_bytes = self.peak_bytes.max(bytes);
        }
    }

    /// It has nothing to do: nothing of it runs until the next event.
    async fn rest(&mut self, waiting: oneshot::Sender<Event>) {
        self.look();
        if self.recipe.freeze {
            self.process.freeze();
        }
        self.flushed().await;
        self.waiting = Some(waiting);
        self.idle_since = Instant::now();
    }

    /// Waits until all that was printed has been read.
    async fn flushed(&self) {
        let (send, receive) = oneshot::channel();
        if self.flush.send(send).is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(1), receive).await;
        }
    }
}

/// Reads what a process prints, until its end.
async fn listen(
    mut pipe: pipe::Receiver,
    output: Arc<Output>,
    log: Option<Arc<Mutex<File>>>,
    mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut line = Vec::new();
    loop {
        tokio::select! {
            // What can be read is read before anyone is told that there is nothing more.
            biased;
            read = pipe.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(n) => {
                    output.push(&buffer[..n]);
                    line.extend_from_slice(&buffer[..n]);
                    // Whole lines, so that those of two instances don't mix.
                    if let (Some(log), Some(end)) = (&log, line.iter().rposition(|b| *b == b'\n')) {
                        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line[..=end]);
                        line.drain(..=end);
                    }
                }
            },
            flush = flushes.recv() => match flush {
                Some(flush) => {
                    let _ = flush.send(());
                }
                None => break,
            },
        }
    }
    // Nothing more can come: whoever still asks is told so by the end of the channel.
}
