//! `Retry-After`: for how long an expert is to be left alone.
//!
//! In: a response's headers and what time it is. Out: a wait that lies ahead. Deliberately absent: a limit, which is the expert's policy.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// What the header says, but for a time that has come: that is no pause.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    wire::retry_after(headers, now).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header};

    use super::*;

    #[track_caller]
    fn check(headers: &[(HeaderName, &'static str)], expected: Option<Duration>) {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        assert_eq!(retry_after(&headers, now), expected);
    }

    #[test]
    fn seconds_or_a_date_and_nothing_else() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (said, expected) in [
            ("3", seconds(3)),
            (" 120 ", seconds(120)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("99999999999999999999999999", Some(Duration::MAX)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", seconds(10)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", seconds(60)),
            ("Sun Nov  6 09:49:37 1994", seconds(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("Tue, 06 Nov 1990 08:49:37 GMT", None),
            ("0", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-5", None),
            ("+5", None),
            ("1e3", None),
            ("inf", None),
            ("NaN", None),
            ("10s", None),
            ("soon", None),
        ] {
            check(&[(header::RETRY_AFTER, said)], expected);
        }
        check(&[(HeaderName::from_static("x-ratelimit-reset-requests"), "6m0s")], None);
    }

    #[test]
    fn a_date_is_told_by_the_servers_own_clock() {
        let date = (header::RETRY_AFTER, "Sun, 06 Nov 1994 10:00:30 GMT");
        check(&[date.clone(), (header::DATE, "Sun, 06 Nov 1994 10:00:00 GMT")], Some(Duration::from_secs(30)));
        check(&[date.clone(), (header::DATE, "Sun, 06 Nov 1994 11:00:00 GMT")], None);
        check(&[date, (header::DATE, "today")], Some(Duration::from_secs(4253)));
    }
}
