//! The socket of a connection, between the kernel and hyper.
//!
//! It passes on the bytes that were read to detect the protocol, and counts reads and writes in `Activity`. It ends the connection at
//! a request line that is too long, before hyper buffers it: hyper would respond 431, but 414 is right.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::server::timeouts::Activity;

/// The maximum length of a request line: method, path and query, version.
pub(crate) const LINE_MAX: usize = 16 << 10;
/// The number of bytes per read of a request line.
const CHUNK: usize = 8 << 10;

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TokioIo<TcpStream>,
    /// Bytes that were read and that hyper has not taken.
    first: Bytes,
    is_http1: bool,
    /// The length of the current request line so far.
    line: usize,
    activity: Arc<Activity>,
}

impl Socket {
    /// The connection of `stream`, from which `first` was read.
    pub(crate) fn new(stream: TcpStream, first: Bytes, is_http1: bool, activity: Arc<Activity>) -> Self {
        Self { stream: TokioIo::new(stream), first, is_http1, line: 0, activity }
    }

    /// The socket.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn is_in_line(&self) -> bool {
        self.is_http1 && self.activity.is_in_line()
    }

    /// Finds request lines in bytes that were read.
    fn saw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_in_line() {
            return Ok(());
        }
        // Line breaks before a request line are ignored; some clients send them after a body.
        let breaks =
            if self.line == 0 { bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count() } else { 0 };
        let bytes = &bytes[breaks..];
        if bytes.is_empty() {
            return Ok(());
        }
        let is_whole = bytes.contains(&b'\n');
        self.activity.read_line(is_whole);
        self.line = if is_whole { 0 } else { self.line + bytes.len() };
        if self.line > LINE_MAX {
            self.activity.line_is_too_long();
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request line is too long"));
        }
        Ok(())
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let bytes = this.first.split_to(this.first.len().min(into.remaining()));
            into.put_slice(&bytes);
            return Poll::Ready(this.saw(&bytes));
        }
        if !this.is_in_line() {
            return Pin::new(&mut this.stream).poll_read(context, into);
        }
        // hyper's buffer cannot be read here, so a request line is read into this one first.
        let mut space = [const { MaybeUninit::uninit() }; CHUNK];
        let room = into.remaining().min(CHUNK);
        let mut read = ReadBuf::uninit(&mut space[..room]);
        ready!(Pin::new(&mut this.stream).poll_read(context, read.unfilled()))?;
        into.put_slice(read.filled());
        Poll::Ready(this.saw(read.filled()))
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.activity.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, parts))?;
        this.activity.wrote();
        Poll::Ready(Ok(written))
    }
}
