//! A bounded queue between threads that log and the stream that lines are written to.
//!
//! Logging never waits for the stream. Lines that do not fit are dropped and counted; one line reports their number once the
//! stream accepts lines again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::log_lines_dropped;

/// The capacity of the queue in lines.
const LINES_MAX: usize = 4096;

/// The sending half of the queue.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue {
    queue: SyncSender<Item>,
    /// Dropped since the last report.
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Answered when all earlier lines were written.
    Flush(SyncSender<()>),
}

impl LogQueue {
    /// Starts the thread that writes to `stream`; `report` formats the line with the number of dropped lines.
    pub(crate) fn start<W>(stream: W, report: fn(u64) -> String) -> io::Result<Self>
    where
        W: Write + Send + 'static,
    {
        let (queue, lines) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let to_report = dropped.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(stream, &lines, &to_report, report))?;
        Ok(Self { queue, dropped })
    }

    /// Waits until the lines that are queued have been written, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        // The queue is full only if the stream is stalled, so waiting does not help.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

fn write(mut stream: impl Write, lines: &Receiver<Item>, dropped: &AtomicU64, report: fn(u64) -> String) {
    while let Ok(item) = lines.recv() {
        match item {
            Item::Line(line) => {
                // A failure to write a log line cannot be logged.
                drop(stream.write_all(&line));
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    drop(writeln!(stream, "{}", report(lost)));
                }
            }
            Item::Flush(done) => {
                drop(stream.flush());
                // The caller of flush may have timed out.
                let _ = done.send(());
            }
        }
    }
}

/// Puts each line of the formatter, which is one write, into the queue.
#[derive(Debug)]
pub(crate) struct LogLine<'a>(&'a LogQueue);

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.queue.try_send(Item::Line(line.to_vec())).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            log_lines_dropped().inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// A stream whose writes block until the test releases them.
    struct Stalled {
        go_on: Receiver<()>,
        written: SyncSender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go_on.recv();
            self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_stream_does_not_block_logging_and_dropped_lines_are_reported_once() {
        let (let_go, go_on) = channel();
        let (written, read) = sync_channel(3 * LINES_MAX);
        let report = |lost| format!("lost {lost}");
        let lines = LogQueue::start(Stalled { go_on, written }, report).unwrap();
        // The thread may have taken one line; the queue holds the next ones.
        for number in 0..2 * LINES_MAX {
            lines.make_writer().write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let lost = lines.dropped.load(Ordering::Relaxed);
        assert!(log_lines_dropped().get() >= lost, "the metric counts them");
        assert!((LINES_MAX as u64 - 1..=LINES_MAX as u64).contains(&lost), "{lost}");

        drop(let_go);
        // The queue is full until the thread has taken a line.
        let text: Vec<_> = read.iter().take(LINES_MAX + 1).collect();
        lines.flush(Duration::from_secs(20));
        let all = text.concat() + &read.try_iter().collect::<String>();
        assert!(all.starts_with("0\n"), "{}", &all[..20]);
        assert_eq!(all.matches("lost").count(), 1, "reported once");
        assert!(all.contains(&format!("lost {lost}")), "{lost}");
    }

    #[test]
    fn queued_lines_are_written_when_the_process_ends() {
        let (written, read) = sync_channel(10);
        let (let_go, go_on) = channel();
        drop(let_go);
        let lines = LogQueue::start(Stalled { go_on, written }, |lost| lost.to_string()).unwrap();
        lines.make_writer().write_all(b"last words\n").unwrap();
        lines.flush(Duration::from_secs(20));
        assert_eq!(read.try_recv().unwrap(), "last words\n");
    }
}
