//! `spec.schedule`: five fields as in a CronJob, in UTC. Pure; the clock is an argument.

use k8s_openapi::jiff::{Timestamp, ToSpan, civil::DateTime, tz::TimeZone};

/// When something is done again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// As in cron: with both days given, either will do.
    either_day: bool,
}

/// Names, limits.
const FIELDS: [(&str, u32, u32); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7)];

/// Eight years without a tick means never: `0 0 29 2 *` has one in that time, whatever the century.
const HORIZON_DAYS: i64 = 8 * 366;

impl Schedule {
    /// Reads `minute hour day-of-month month day-of-week`, or a word like `@daily`.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            other => other,
        };
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!("expected five fields, got {}", fields.len()));
        };
        let set = |field: usize, text: &str| set(text, FIELDS[field]);
        let mut weekdays = set(4, weekday)?;
        // Sunday is 0, and 7 as well.
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        let either_day = !day.starts_with('*') && !weekday.starts_with('*');
        let schedule =
            Self { minutes: set(0, minute)?, hours: set(1, hour)?, days: set(2, day)?, months: set(3, month)?, weekdays, either_day };
        match schedule.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err("there is no such day".to_owned()),
        }
    }

    /// The first tick after that time.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let start = after.to_zoned(TimeZone::UTC).datetime();
        let mut day = start.date();
        for ahead in 0..HORIZON_DAYS {
            if self.has_day(day.month(), day.day(), day.weekday().to_sunday_zero_offset()) {
                let first = if ahead == 0 { minute_of(start) + 1 } else { 0 };
                if let Some(minute) = (first..24 * 60).find(|minute| has(self.hours, minute / 60) && has(self.minutes, minute % 60)) {
                    let tick = day.at(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0);
                    return tick.to_zoned(TimeZone::UTC).ok().map(|tick| tick.timestamp());
                }
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    /// The last tick that is later than `after` and not later than `now`.
    #[must_use]
    pub fn last_between(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        // Whether there is one is told by the next; which is the last matters little: so a long absence is not walked minute by minute.
        let first = self.next_after(after).filter(|tick| *tick <= now)?;
        let day_before = now.checked_sub(24.hours()).map_or(first, |before| before.max(after));
        let mut last = self.next_after(day_before).filter(|tick| *tick <= now).unwrap_or(first);
        while let Some(next) = self.next_after(last).filter(|tick| *tick <= now) {
            last = next;
        }
        Some(last)
    }

    fn has_day(&self, month: i8, day: i8, weekday: i8) -> bool {
        let of = |set: u64, value: i8| u32::try_from(value).is_ok_and(|value| has(set, value));
        let (by_day, by_weekday) = (of(self.days, day), of(self.weekdays, weekday));
        of(self.months, month) && if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }
}

fn minute_of(time: DateTime) -> u32 {
    u32::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).unwrap_or(0)
}

fn has(set: u64, value: u32) -> bool {
    value < 64 && set & (1 << value) != 0
}

fn set(text: &str, (name, least, most): (&str, u32, u32)) -> Result<u64, String> {
    let wrong = || format!("{name}: expected numbers from {least} to {most}, `*`, `,`, `-` and `/`, got {text:?}");
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong);
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step = match step {
            None => 1,
            Some(step) => step.parse::<u32>().ok().filter(|step| (1..=most.max(1)).contains(step)).ok_or_else(wrong)?,
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // As in cron: `3/5` is from 3 on.
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        if from > to {
            return Err(wrong());
        }
        (from..=to).step_by(step as usize).for_each(|value| set |= 1 << value);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        Schedule::parse(schedule).unwrap().next_after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn ticks_are_where_cron_has_them() {
        assert_eq!(next("0 3 * * 1", "2026-11-24T11:00:00Z"), "2026-11-30T03:00:00Z", "a Monday");
        assert_eq!(next("*/15 * * * *", "2026-11-24T11:45:00Z"), "2026-11-24T12:00:00Z", "later, not the same");
        assert_eq!(next("30 9-17/4 * * *", "2026-11-24T13:31:00Z"), "2026-11-24T17:30:00Z");
        assert_eq!(next("0 0 29 2 *", "2026-11-24T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(next("0 0 13 * 5", "2026-11-24T00:00:00Z"), "2026-11-27T00:00:00Z", "a Friday or a 13th");
        assert_eq!(next("5 4 * * 7", "2026-11-24T00:00:00Z"), "2026-11-29T04:05:00Z", "7 is Sunday too");
        assert_eq!(next("@monthly", "2026-12-01T00:00:00Z"), "2027-01-01T00:00:00Z");
        assert_eq!(next("3/20 1,2 * * *", "2026-11-24T01:43:59Z"), "2026-11-24T02:03:00Z");
    }

    #[test]
    fn what_is_no_schedule_says_which_field() {
        for (text, expected) in [
            ("60 * * * *", "minute"),
            ("* 1-0 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * 1/0 *", "month"),
            ("* * * * 8", "day of week"),
            ("* * * *", "five fields"),
            ("0 0 31 2 *", "no such day"),
            ("- * * * *", "minute"),
            ("*/99999999999 * * * *", "minute"),
        ] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_missed_tick_is_found_once_and_the_future_is_not() {
        let schedule = Schedule::parse("0 * * * *").unwrap();
        let between =
            |after: &str, now: &str| schedule.last_between(after.parse().unwrap(), now.parse().unwrap()).map(|tick| tick.to_string());
        assert_eq!(between("2026-11-01T00:30:00Z", "2026-11-24T11:10:00Z").as_deref(), Some("2026-11-24T11:00:00Z"));
        assert_eq!(between("2026-11-24T11:00:00Z", "2026-11-24T11:59:59Z"), None);
        let yearly = Schedule::parse("0 0 1 1 *").unwrap();
        let found = yearly.last_between("2025-06-01T00:00:00Z".parse().unwrap(), "2026-11-24T00:00:00Z".parse().unwrap());
        assert_eq!(found.map(|tick| tick.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
    }
}
