//! The language the tests are written in: an [`Image`](image::Image) made from a rule lies in a [`Lab`](lab::Lab), where
//! jobs run on it, each in one block or cut up in some [`Cut`](lab::Cut), and leave [`Answers`](answers::Answers) that can
//! be compared with each other and with the slow and obvious [`twin`].

pub(crate) mod answers;
pub(crate) mod image;
pub(crate) mod lab;
pub(crate) mod twin;

use std::future::Future;
use std::sync::LazyLock;

use tokio::runtime::Runtime;

/// Waits for something asynchronous. Tests read better without `async`, and property tests can't have it.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(work)
}
