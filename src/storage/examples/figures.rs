//! What appending and reading cost, in microseconds per message.
//!
//! `cargo run --release -p grapevine-storage --example figures [directory]`

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a program")]

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grapevine_storage::{Batch, CacheBudget, Cursor, DirDisk, Disk, Log, LogOptions, Mode};

const BATCH_MESSAGES: usize = 200;
const BATCHES: usize = 10_000;
const BODY: [u8; 200] = [7; 200];

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let dir = dir.join(format!("grapevine-figures-{}", std::process::id()));
    for mode in [Mode::WriteThrough, Mode::WriteBehind { messages_max: 10_000 }, Mode::MemoryOnly] {
        for lag_batches in [0, 100, BATCHES] {
            if mode == Mode::MemoryOnly && lag_batches == BATCHES {
                continue; // all of it would be in memory
            }
            run(&DirDisk::new(&dir), mode, lag_batches)?;
            std::fs::remove_dir_all(&dir).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    Ok(())
}

/// Appends everything, and reads and releases it `lag_batches` behind.
fn run(disk: &DirDisk, mode: Mode, lag_batches: usize) -> Result<(), Box<dyn Error>> {
    let cache = Arc::new(CacheBudget::default());
    let options = LogOptions { mode, segment_bytes_max: 100 << 20, cache: cache.clone() };
    let (mut log, _) = Log::open(disk.clone(), options)?;
    let mut batch = Batch::new();
    let (mut building, mut appending, mut reading) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut cursor = Cursor::default();
    let mut sum = 0_u64;
    for i in 0..BATCHES + lag_batches {
        if i < BATCHES {
            let started = Instant::now();
            batch.clear();
            for _ in 0..BATCH_MESSAGES {
                batch.push(&BODY, 0);
            }
            building += started.elapsed();
            let started = Instant::now();
            log.append(&mut batch, i as u64, 1, 1)?;
            appending += started.elapsed();
        }
        if i >= lag_batches {
            let started = Instant::now();
            let until = cursor.seq + BATCH_MESSAGES as u64;
            cursor = log.read(cursor, until, &mut |record| {
                sum += u64::from(record.body[0]) + record.id;
                ControlFlow::Continue(())
            })?;
            for name in log.release(cursor) {
                disk.remove(&name)?;
            }
            reading += started.elapsed();
        }
    }
    let messages = (BATCHES * BATCH_MESSAGES) as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / messages;
    println!(
        "{:<38} lag {:>6} batches: build {:.3} append {:.3} read {:.3} us/message, \
         cache {} KiB ({})",
        format!("{mode:?}"),
        lag_batches,
        each(building),
        each(appending),
        each(reading),
        cache.used() / 1024,
        sum % 10,
    );
    Ok(())
}
