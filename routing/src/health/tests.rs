use proptest::prelude::*;

use super::*;

const POLICY: Health = Health { consecutive_failures: 3, base_ejection_seconds: 4, max_ejection_seconds: 30 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends and ends one request.
fn request(health: &mut Ejection, outcome: Outcome, now: Duration) -> bool {
    let ticket = health.begin(now);
    health.end(ticket, outcome, now).ejected_for.is_some()
}

fn ejected_at_zero() -> Ejection {
    let mut health = Ejection::new(POLICY);
    let ejections = (0..3).filter(|_| request(&mut health, Outcome::Failure, at(0))).count();
    assert_eq!(ejections, 1);
    health
}

#[test]
fn only_failures_in_a_row_eject() {
    let mut health = Ejection::new(POLICY);
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Unknown, Outcome::Failure] {
        assert!(!request(&mut health, outcome, at(1)));
    }
    assert!(!health.is_ejected(at(1)));
    assert!(request(&mut health, Outcome::Failure, at(1)));
    assert!(health.is_ejected(at(1)));
    assert_eq!(health.ejected_for(at(2)), at(3));
}

#[test]
fn an_expert_is_well_while_its_last_request_that_tells_was() {
    let mut health = Ejection::new(POLICY);
    let mut after = |outcome| {
        request(&mut health, outcome, at(0));
        health.is_well()
    };
    assert!(after(Outcome::Unknown));
    assert!(!after(Outcome::Failure));
    assert!(!after(Outcome::Unknown));
    assert!(after(Outcome::Success));
    assert!(!ejected_at_zero().is_well());
}

#[test]
fn zero_failures_never_eject() {
    let mut health = Ejection::new(Health { consecutive_failures: 0, ..POLICY });
    assert!((0..100).all(|_| !request(&mut health, Outcome::Failure, at(0))));
    assert!(!health.is_ejected(at(0)));
}

#[test]
fn exactly_one_probe_is_let_through_and_its_success_brings_the_expert_back() {
    let mut health = ejected_at_zero();
    assert!(health.is_ejected(at(3)) && !health.is_ejected(at(4)));
    let probe = health.begin(at(4));
    assert!(probe.is_probe() && health.is_ejected(at(4)));
    assert!(!health.begin(at(4)).is_probe());
    assert_eq!(health.end(probe, Outcome::Success, at(5)), Effect::default());
    assert!(!health.is_ejected(at(5)));
    assert!(!request(&mut health, Outcome::Failure, at(5)), "failures are counted anew");
}

#[test]
fn each_failed_probe_doubles_the_ejection_up_to_the_limit() {
    let mut health = ejected_at_zero();
    let mut now = at(0);
    for expected in [4, 8, 16, 30, 30, 30] {
        assert_eq!(health.ejected_for(now), at(expected));
        now += at(expected);
        assert!(request(&mut health, Outcome::Failure, now));
    }
}

#[test]
fn requests_that_are_no_probe_do_not_bring_an_expert_back() {
    let mut health = Ejection::new(POLICY);
    let early = health.begin(at(0));
    for _ in 0..3 {
        request(&mut health, Outcome::Failure, at(0));
    }
    assert_eq!(health.end(early, Outcome::Success, at(1)), Effect::default());
    request(&mut health, Outcome::Success, at(1));
    assert!(health.is_ejected(at(1)));
}

#[test]
fn a_probe_that_tells_nothing_hands_on_to_the_next_request() {
    let mut health = ejected_at_zero();
    let probe = health.begin(at(4));
    health.end(probe, Outcome::Unknown, at(6));
    assert!(!health.is_ejected(at(6)));
    assert!(health.begin(at(6)).is_probe());
}

#[test]
fn a_probe_that_never_ends_is_replaced_and_then_ignored() {
    let mut health = ejected_at_zero();
    let lost = health.begin(at(4));
    assert!(health.is_ejected(at(33)) && !health.is_ejected(at(34)));
    let second = health.begin(at(34));
    health.end(lost, Outcome::Success, at(35));
    assert!(health.is_ejected(at(35)));
    health.end(second, Outcome::Success, at(35));
    assert!(!health.is_ejected(at(35)));
}

/// A request that the expert answers by asking for a pause: what that does.
fn asked(health: &mut Ejection, seconds: u64, now: Duration) -> (Option<u64>, Option<u64>) {
    let ticket = health.begin(now);
    let Effect { paused_for, ejected_for } = health.end(ticket, Outcome::Pause(at(seconds)), now);
    (paused_for.map(|left| left.as_secs()), ejected_for.map(|left| left.as_secs()))
}

#[test]
fn an_expert_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_any_is_ejected() {
    let mut health = Ejection::new(POLICY);
    assert_eq!(asked(&mut health, 7, at(1)), (Some(7), None));
    assert_eq!((health.paused_for(at(3)), health.paused_for(at(8))), (at(5), at(0)));
    assert!(!health.is_ejected(at(1)) && !health.is_well());
    assert_eq!(asked(&mut health, 0, at(9)), (None, None), "no pause is none");
    request(&mut health, Outcome::Success, at(9));
    assert!(health.is_well());
    assert_eq!(asked(&mut health, u64::MAX, at(9)), (Some(30), None));
}

#[test]
fn of_requests_that_were_under_way_together_the_longest_pause_holds_and_one_counts() {
    let mut health = Ejection::new(POLICY);
    assert_eq!(asked(&mut health, 5, at(0)), (Some(5), None));
    for (seconds, left) in [(3, 5), (9, 9), (2, 9), (1, 9)] {
        assert_eq!(asked(&mut health, seconds, at(0)), (None, None));
        assert_eq!(health.paused_for(at(0)), at(left));
    }
}

#[test]
fn an_expert_that_is_never_ready_when_it_said_is_ejected_and_asks_for_more_as_a_probe() {
    let mut health = Ejection::new(POLICY);
    assert_eq!(asked(&mut health, 1, at(0)), (Some(1), None));
    assert_eq!(asked(&mut health, 1, at(1)), (Some(1), None));
    assert_eq!(asked(&mut health, 1, at(2)), (Some(1), Some(4)));
    assert_eq!(asked(&mut health, 20, at(6)), (Some(20), Some(8)), "the probe");
    assert!(!health.is_ejected(at(14)) && health.paused_for(at(14)) == at(12));
}

#[test]
fn whoever_never_ejects_pauses_all_the_same() {
    let mut health = Ejection::new(Health { consecutive_failures: 0, ..POLICY });
    for round in 0..20 {
        assert_eq!(asked(&mut health, 1, at(round)), (Some(1), None));
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_expert_comes_back_in_the_end(
        policy in (0_u32..5, any::<u32>(), any::<u32>()), events in prop::collection::vec((0_u8..4, 0_u64..50), 0..60),
    ) {
        let policy = Health { consecutive_failures: policy.0, base_ejection_seconds: policy.1, max_ejection_seconds: policy.2 };
        let (mut health, mut now) = (Ejection::new(policy), at(0));
        for (kind, pause) in events {
            now += at(pause);
            request(&mut health, [Outcome::Success, Outcome::Failure, Outcome::Unknown, Outcome::Pause(at(pause))][usize::from(kind)], now);
        }
        now += health.ejected_for(now).max(health.paused_for(now));
        prop_assert!(!health.is_ejected(now) && health.paused_for(now).is_zero());
        request(&mut health, Outcome::Success, now);
        prop_assert!(!health.is_ejected(now));
    }
}
