//! When a cron expression comes next, in a time zone with its changes of the clock.
//!
//! Five fields: minute, hour, day of month, month, day of week (`cronexpr` has the syntax). Where the hour field begins with
//! `*`, the expression means real time: each moment at which a clock on the wall would show it, also twice in an hour that
//! comes twice. Otherwise it names times of the day, and each of them comes once a day: in an hour that comes twice the
//! first time, and in one that is left out as much later as the clock is set forward (02:30 becomes 03:30).

use super::error::ScheduleError;
use crate::limits::{CRON_BYTES_MAX, TIME_ZONE_BYTES_MAX};
use crate::types::TimestampMs;
use cronexpr::{Crontab, MakeTimestamp};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

/// The library looks four years ahead at a time; a day of week falls on every date within seven times that.
const LOOKS_AHEAD: usize = 7;

/// The beginning of the year 9900: what comes after it is not looked for.
const LATEST_MS: TimestampMs = 250_246_627_200_000;

/// A time of day that comes twice is found twice before one that lies ahead; more than this are never between.
const REPEATED_MAX: usize = 24 * 60;

/// What becomes of occurrences that could not be delivered in time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The first of them is delivered late, for all of them.
    #[default]
    Once,
    /// They are left out.
    Skip,
}

/// A schedule that comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    /// Five fields.
    pub cron: String,
    /// Name in the time zone database.
    pub time_zone: String,
    /// What becomes of those that were missed.
    pub missed: Missed,
}

impl Recurrence {
    /// Checks both texts; an empty time zone is UTC.
    pub fn new(cron: &str, time_zone: &str, missed: Missed) -> Result<Self, ScheduleError> {
        let time_zone = if time_zone.is_empty() { "UTC" } else { time_zone };
        let too_long = |field, bytes, most| {
            Err(ScheduleError::Invalid { field, what: format!("it has {bytes} bytes; at most {most} are allowed") })
        };
        if cron.len() > CRON_BYTES_MAX {
            return too_long("cron", cron.len(), CRON_BYTES_MAX);
        }
        if time_zone.len() > TIME_ZONE_BYTES_MAX {
            return too_long("time_zone", time_zone.len(), TIME_ZONE_BYTES_MAX);
        }
        let cron = cron.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let recurrence = Self { cron, time_zone: time_zone.to_owned(), missed };
        recurrence.parse().map(|_| recurrence)
    }

    /// The first occurrence after `after_ms`; `None` if there is none within 28 years.
    pub fn next_after(&self, after_ms: TimestampMs) -> Result<Option<TimestampMs>, ScheduleError> {
        let (crontab, zone) = self.parse()?;
        // Near the end of its calendar the library panics instead of looking ahead.
        let in_range = (0..=LATEST_MS).contains(&after_ms).then(|| Timestamp::from_millisecond(after_ms));
        let Some(Ok(after)) = in_range else { return Ok(None) };
        let next =
            if self.is_of_real_time() { next_match(&crontab, after) } else { next_time_of_day(&crontab, &zone, after) };
        Ok(next.map(Timestamp::as_millisecond))
    }

    fn is_of_real_time(&self) -> bool {
        self.cron.split(' ').nth(1).is_some_and(|hour| hour.starts_with('*'))
    }

    /// In real time the library goes by the zone itself; times of day are found as if there were none.
    fn parse(&self) -> Result<(Crontab, TimeZone), ScheduleError> {
        let zone = TimeZone::get(&self.time_zone).map_err(|_| {
            let what = format!("there is no time zone {:?}; name one such as Europe/Berlin, or UTC", self.time_zone);
            ScheduleError::Invalid { field: "time_zone", what }
        })?;
        let fields = self.cron.split(' ').filter(|field| !field.is_empty()).count();
        if fields != 5 {
            let what = format!("it has {fields} fields; write five: minute, hour, day of month, month, day of week");
            return Err(ScheduleError::Invalid { field: "cron", what });
        }
        let zone_name = if self.is_of_real_time() { self.time_zone.as_str() } else { "UTC" };
        let crontab = cronexpr::parse_crontab(&format!("{} {zone_name}", self.cron)).map_err(|error| {
            // The first line names the trouble; those below draw it under an expression that nobody wrote.
            let what = error.to_string().lines().next().unwrap_or_default().to_owned();
            ScheduleError::Invalid { field: "cron", what: format!("{:?} is not understood: {what}", self.cron) }
        })?;
        Ok((crontab, zone))
    }
}

/// The first match after `after`.
fn next_match(crontab: &Crontab, after: Timestamp) -> Option<Timestamp> {
    let mut from = after;
    for _ in 0..LOOKS_AHEAD {
        if let Ok(found) = crontab.find_next(MakeTimestamp(from)) {
            return Some(found.timestamp());
        }
        from = from.to_zoned(TimeZone::UTC).checked_add(4.years()).ok()?.timestamp();
    }
    None
}

/// The first time of day after `after`: found on a clock that is never set, then put into the zone.
fn next_time_of_day(crontab: &Crontab, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let unset = |civil: jiff::civil::DateTime| civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let mut from = unset(zone.to_datetime(after))?;
    for _ in 0..REPEATED_MAX {
        from = next_match(crontab, from)?;
        let civil = TimeZone::UTC.to_datetime(from);
        let found = zone.to_ambiguous_zoned(civil).compatible().ok()?.timestamp();
        if found > after {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BERLIN: &str = "Europe/Berlin";

    fn ms(text: &str) -> TimestampMs {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    /// The next occurrences after a time, in UTC.
    fn occurrences(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let recurrence = Recurrence::new(cron, zone, Missed::Once).expect("valid");
        let mut at = ms(after);
        let mut next = || {
            at = recurrence.next_after(at).expect("valid").expect("there is one");
            Timestamp::from_millisecond(at).expect("in range").to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn times_of_day_follow_the_zone() {
        let working_days = occurrences("0 9 * * 1-5", BERLIN, "2026-03-26T12:00:00Z", 4);
        let expected = ["2026-03-27T08:00:00Z", "2026-03-30T07:00:00Z", "2026-03-31T07:00:00Z", "2026-04-01T07:00:00Z"];
        assert_eq!(working_days, expected, "nine in the morning, before and after the clock was set");
        assert_eq!(occurrences("0 0 29 2 *", "", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    }

    /// On 2026-03-29 the clock in Berlin goes from 02:00 to 03:00, at 01:00 UTC.
    #[test]
    fn a_time_that_is_left_out_comes_later_by_as_much() {
        let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"];
        assert_eq!(occurrences("30 2 * * *", BERLIN, "2026-03-27T12:00:00Z", 3), expected);
        let both = occurrences("30 2,3 * * *", BERLIN, "2026-03-28T12:00:00Z", 2);
        assert_eq!(both, ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"], "two that come to the same are one");
        let expected = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        assert_eq!(occurrences("*/30 * * * *", BERLIN, "2026-03-29T00:00:00Z", 3), expected, "real time has no gap");
    }

    /// On 2026-10-25 it goes from 03:00 to 02:00, at 01:00 UTC.
    #[test]
    fn a_time_that_comes_twice_is_the_first_one_and_real_time_counts_both() {
        let expected = ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(occurrences("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2), expected);
        let within = occurrences("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1);
        assert_eq!(within, ["2026-10-26T01:30:00Z"], "asked in the hour that comes again");
        let expected = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
        assert_eq!(occurrences("*/30 * * * *", BERLIN, "2026-10-24T23:30:00Z", 4), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// It comes from clients: a panic would take the broker with it.
        #[test]
        fn whatever_is_written_is_refused_or_comes_later(
            fields in prop::collection::vec("[0-9*/,#LW-]{1,5}|[0-9]{1,2}|[*]|[*]/[0-9]{1,2}|[A-Za-z]{1,4}", 5..6),
            zone in prop::sample::select(vec!["UTC", BERLIN, "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Tehran"]),
            after_ms in prop_oneof![0..=4_102_444_800_000_i64, any::<i64>()],
        ) {
            let Ok(recurrence) = Recurrence::new(&fields.join(" "), zone, Missed::Once) else { return Ok(()) };
            if let Some(next_ms) = recurrence.next_after(after_ms).expect("it was parsed before") {
                prop_assert!(next_ms > after_ms);
                prop_assert_eq!(next_ms % 1_000, 0);
            }
        }

        #[test]
        fn text_of_any_kind_is_refused_or_parsed(cron in "\\PC{0,40}", zone in "\\PC{0,20}") {
            let _ = Recurrence::new(&cron, &zone, Missed::Skip);
        }
    }

    #[test]
    fn zones_are_there_without_the_files_of_the_machine() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        assert!(bundled.get(BERLIN).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (cron, zone, field, words) in [
            ("0 9 * * 1-5", "Mars/Olympus", "time_zone", "Europe/Berlin"),
            ("0 9 * *", "", "cron", "4 fields"),
            ("0 9 * * 1 UTC", "", "cron", "6 fields"),
            ("61 9 * * *", "", "cron", "61 9 * * *"),
            ("", "", "cron", "0 fields"),
            (&"1,".repeat(200), "", "cron", "256"),
            ("* * * * *", &"x".repeat(100), "time_zone", "64"),
        ] {
            let refused = Recurrence::new(cron, zone, Missed::Once).expect_err(cron);
            let ScheduleError::Invalid { field: found, what } = &refused else { panic!("{refused:?}") };
            assert_eq!(*found, field, "{what}");
            assert!(what.contains(words) && !what.contains('\n'), "{what}");
        }
        let never = Recurrence::new("0 0 31 2 *", "", Missed::Once).expect("well formed");
        assert_eq!(never.next_after(0), Ok(None));
    }
}
