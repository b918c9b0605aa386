// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters as JSON, for who connects to a socket.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::backend::kind;
use crate::counters::Queue;
use crate::server::Server;

/// Listens at `path`: each connection gets the counters once, as one line.
///
/// # Errors
///
/// There is something else, or another server listens.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    if let Ok(old) = std::fs::symlink_metadata(path) {
        if !old.file_type().is_socket() {
            bail!("{shown} is there and no socket: give --stats another name");
        }
        if UnixStream::connect(path).is_ok() {
            bail!("{shown} is another server's: give --stats another name");
        }
        // Left by one that was killed.
        std::fs::remove_file(path).with_context(|| shown.to_string())?;
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen at {shown}"))
}

/// Answers at the socket from a thread of its own.
///
/// # Errors
///
/// No thread.
pub fn answer(listener: UnixListener, server: Arc<Server>) -> Result<()> {
    let run = move || {
        for stream in listener.incoming() {
            match stream {
                // A client that does not read loses its answer: it fits into an empty socket.
                Ok(stream) => {
                    let text = format!("{}\n", report(&server));
                    // As a file: write(2) is a call that the filter has anyway.
                    let _ = File::from(OwnedFd::from(stream)).write_all(text.as_bytes());
                }
                // No descriptor is left: not again at once.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    thread::Builder::new().name("stats".into()).spawn(run).context("no thread for --stats")?;
    Ok(())
}

/// All counters.
#[must_use]
pub fn report(server: &Server) -> Value {
    let transport = |(id, queues, daemon): (u32, &[Arc<Queue>], Option<bool>)| match daemon {
        // Its queues are the daemon's to count.
        Some(serves) => {
            json!({ "kind": kind(id), "daemon": if serves { "serves" } else { "ended" } })
        }
        None => {
            let queues: Vec<Value> = queues.iter().map(|queue| report_queue(queue)).collect();
            json!({ "kind": kind(id), "queues": queues })
        }
    };
    let transports: Vec<Value> = server.transports().map(transport).collect();
    json!({ "vm": server.name(), "attachments": server.attachments(), "transports": transports })
}

fn report_queue(queue: &Queue) -> Value {
    json!({
        "kicks": queue.kicks.get(),
        "requests": queue.requests.get(),
        "bytes_in": queue.bytes_in.get(),
        "bytes_out": queue.bytes_out.get(),
        "errors": queue.errors.get(),
        "malformed": queue.malformed.get(),
        "interrupts": queue.interrupts.get(),
        "broken": queue.broken.get(),
    })
}
