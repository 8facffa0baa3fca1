//! Sending at a rate, whatever the answers do: each record has a time it is meant to be sent at.
//!
//! A sender that waits for a slow broker sends its records late; their latency counts from the intended time, so the
//! wait is in the figures (otherwise a pause of a second would count once instead of for everything that was due in it).
//! The timer is one of the kernel's: the runtime's own is a millisecond wide, which is more than what is measured.

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// What is due within this time is sent together: waking for each record would measure the timer.
pub const TOGETHER: Duration = Duration::from_micros(50);

/// When the records of one sender are meant to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start_ns: u64,
    /// Nanoseconds between records, as a fraction: `per_ns.0 / per_ns.1`.
    per_ns: (u128, u128),
}

impl Schedule {
    /// One of `senders` that share `records_per_second`; their records alternate.
    pub fn new(start_ns: u64, records_per_second: u64, sender: u32, senders: u32) -> Self {
        assert!(records_per_second > 0 && sender < senders, "a rate and a place among the senders");
        let (rate, senders) = (u128::from(records_per_second), u128::from(senders));
        let shift_ns = 1_000_000_000 * u128::from(sender) / rate;
        let start_ns = start_ns.saturating_add(u64::try_from(shift_ns).unwrap_or(u64::MAX));
        Self { start_ns, per_ns: (1_000_000_000 * senders, rate) }
    }

    /// When record `number` is due, in nanoseconds since the run began.
    #[inline]
    pub fn due_ns(&self, number: u64) -> u64 {
        let after_ns = u128::from(number) * self.per_ns.0 / self.per_ns.1;
        self.start_ns.saturating_add(u64::try_from(after_ns).unwrap_or(u64::MAX))
    }

    /// How many records are due at `now_ns`, all together.
    #[inline]
    pub fn due_by(&self, now_ns: u64) -> u64 {
        let Some(since_ns) = now_ns.checked_sub(self.start_ns) else { return 0 };
        let whole = (u128::from(since_ns) * self.per_ns.1).div_ceil(self.per_ns.0);
        // The division rounds as `due_ns` does not: count the one that is due at this very nanosecond.
        let due = u64::try_from(whole).unwrap_or(u64::MAX);
        due + u64::from(self.due_ns(due) <= now_ns)
    }
}

/// A timer of the kernel.
#[derive(Debug)]
pub struct PreciseTimer(AsyncFd<OwnedFd>);

impl PreciseTimer {
    /// A timer; needs a runtime.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "the other way is unsafe code; this descriptor is owned here and stays what it is"
        )]
        let timer = AsyncFd::new(fd)?;
        Ok(Self(timer))
    }

    /// Waits for `ns` nanoseconds. May be dropped while it waits.
    pub async fn wait(&self, ns: u64) -> io::Result<()> {
        // Zero would stop the timer.
        let wait = Duration::from_nanos(ns.max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        loop {
            let mut guard = self.0.readable().await?;
            let mut expirations = [0; 8];
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?)) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // It was set anew by the line above after it had expired.
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    #[test]
    fn records_are_due_evenly_and_senders_alternate() {
        let first = Schedule::new(1_000, 1_000_000, 0, 2);
        let second = Schedule::new(1_000, 1_000_000, 1, 2);
        assert_eq!([0, 1, 2].map(|number| first.due_ns(number)), [1_000, 3_000, 5_000]);
        assert_eq!([0, 1, 2].map(|number| second.due_ns(number)), [2_000, 4_000, 6_000]);
        assert_eq!([999, 1_000, 2_999, 3_000].map(|now| first.due_by(now)), [0, 1, 1, 2]);
    }

    #[test]
    fn a_sender_that_was_held_up_owes_every_record_of_that_time() {
        let schedule = Schedule::new(0, 20_000, 0, 1);
        let held_up_until_ns = 1_000_000_000;
        assert_eq!(schedule.due_by(held_up_until_ns), 20_001);
        assert_eq!(schedule.due_ns(10_000), 500_000_000, "and the one in the middle is half a second late");
    }

    proptest! {
        #[test]
        fn what_is_due_and_when_it_is_due_agree(rate in 1_u64..20_000_000, senders in 1_u32..9, number in 0_u64..1_000_000) {
            let schedule = Schedule::new(77, rate, senders - 1, senders);
            let due_ns = schedule.due_ns(number);
            prop_assert!(schedule.due_by(due_ns) > number);
            prop_assert!(due_ns == 0 || schedule.due_by(due_ns - 1) <= number);
        }
    }

    #[tokio::test]
    async fn the_timer_waits_and_can_be_used_again_after_a_wait_was_dropped() {
        let timer = PreciseTimer::new().expect("a timer");
        drop(tokio::time::timeout(Duration::from_millis(1), timer.wait(60_000_000_000)).await);
        let begun = Instant::now();
        timer.wait(3_000_000).await.expect("it expires");
        timer.wait(0).await.expect("it expires at once");
        assert!(begun.elapsed() >= Duration::from_millis(3));
    }
}
