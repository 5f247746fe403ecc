//! How long to wait before asking again.

use std::time::Duration;

/// Waits double from one attempt to the next, half of each up to chance, so that many who failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// In all, the first included.
    pub attempts: u32,
    /// The first wait, at its longest.
    pub base: Duration,
    /// No wait is longer, but for one the server asks for.
    pub most: Duration,
}

/// A server that asks for more patience than this is not waited for any longer.
const MOST_ASKED_FOR: Duration = Duration::from_secs(600);

impl Default for Backoff {
    fn default() -> Self {
        Self { attempts: 6, base: Duration::from_secs(1), most: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// After so many attempts; what the server asked for is not undercut.
    #[must_use]
    pub fn wait(&self, attempts: u32, asked_for: Option<Duration>) -> Duration {
        let doubled = self.base.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(20))).min(self.most);
        let own = doubled.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        asked_for.map_or(own, |asked| asked.min(MOST_ASKED_FOR).max(own.min(self.base)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use wire::retry_after;

    use super::Backoff;

    #[test]
    fn waits_grow_to_their_limit() {
        let backoff = Backoff { attempts: 9, base: Duration::from_secs(1), most: Duration::from_secs(10) };
        for (attempts, most) in [(1, 1), (2, 2), (4, 8), (5, 10), (u32::MAX, 10)] {
            let wait = backoff.wait(attempts, None);
            assert!(wait >= Duration::from_secs(most) / 2 && wait <= Duration::from_secs(most), "{attempts}: {wait:?}");
        }
    }

    #[test]
    fn the_server_is_not_undercut_and_not_waited_for_for_ever() {
        let backoff = Backoff::default();
        assert_eq!(backoff.wait(1, Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.wait(1, Some(Duration::MAX)), Duration::from_secs(600));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, expected) in [
            ("3", Some(3)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Tue, 06 Nov 1990 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1e99", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
