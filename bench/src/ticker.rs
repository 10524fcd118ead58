//! A timer with a finer resolution than that of tokio, which is a millisecond. No period is lost between two calls.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A kernel timer (timerfd) that counts periods.
pub(crate) struct Ticker(AsyncFd<OwnedFd>);

impl Ticker {
    /// Starts the timer; the first period ends one `period` from now.
    pub(crate) fn start(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec::try_from(period).map_err(io::Error::other)?;
        let every = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` meets its safety condition")]
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits until at least one period has passed, and returns the number of periods since the last call.
    pub(crate) async fn passed(&self) -> io::Result<u64> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0; size_of::<u64>()];
            match read(self.0.get_ref(), &mut count) {
                Ok(_) => return Ok(u64::from_ne_bytes(count)),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn periods_between_two_calls_are_counted() {
        let period = Duration::from_micros(200);
        let start = Instant::now();
        let ticker = Ticker::start(period).unwrap();
        let mut passed = 0;
        while passed < 50 {
            passed += ticker.passed().await.unwrap();
        }
        assert!(start.elapsed() >= 50 * period, "{passed} periods in {:?}", start.elapsed());
    }
}
