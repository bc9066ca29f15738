//! Taking over the data path of a stock nsqd 1.x: `nsqd.dat` and the files of go-diskqueue.
//!
//! Happens once, at the start, before topics are loaded. Nothing is changed until everything has
//! been written anew and read back; nsqd's files are then moved aside and never removed.
//!
//! | file | holds |
//! |---|---|
//! | `take_over` | [`take_over`]: the steps, and what a start after a crash does with them |
//! | `files` | which file of nsqd is what, and moving them aside |
//! | `plan` | which topics and channels there will be, and which queue is whose |
//! | `disk_queue` | a queue: its positions, and the messages in its files |
//! | `queue_file` | the records of one file |
//! | `topic` | how nsqd's queues, one for each channel, become one log |
//! | `kept_ids` | which messages keep their ids |
//! | `error` | why a data path cannot be taken over |

mod disk_queue;
mod error;
mod files;
mod kept_ids;
#[cfg(test)]
#[path = "../../tests/it/support/nsqd_files.rs"]
mod nsqd_files;
mod plan;
mod queue_file;
mod take_over;
#[cfg(test)]
mod tests;
mod topic;

pub use error::ImportError;
pub use take_over::{ImportLimits, take_over};
